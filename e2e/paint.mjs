// Prints how long a browser takes from asking for each page to its first contentful paint, in milliseconds:
// `node paint.mjs http://ADDRESS PATH...`. For `make bench`.

import { chromium } from "@playwright/test";

const [address, ...paths] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args });
const page = await browser.newPage();
// The first page of a new browser pays for the browser.
await page.goto(address + paths[0]);
for (const path of paths) {
  await page.goto(address + path);
  const paint = await page.evaluate(
    () =>
      new Promise((resolve) => {
        new PerformanceObserver((list) => {
          const found = list.getEntriesByName("first-contentful-paint")[0];
          if (found !== undefined) resolve(found.startTime);
        }).observe({ type: "paint", buffered: true });
      }),
  );
  console.log(`${path} ${paint.toFixed(0)}`);
}
await browser.close();
