// Pictures of the pages: two for the README, and with SCREENSHOTS=DIR every page in every way it can look.

import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { follow, pages, test } from "../stage.js";

const IMAGES = fileURLToPath(new URL("../../docs/images", import.meta.url));

test("the README's", async ({ stage, browser }) => {
  stage.fleet("harmless");
  await stage.serve();
  const context = await browser.newContext({ viewport: { width: 1280, height: 810 } });
  await stage.open(context);
  const page = await context.newPage();
  for (const [name, path] of [["overview", "/"], ["server", "/servers/web-2"]] as const) {
    await page.goto(stage.address + path);
    // Without the frame's foot, which names a directory that is gone by now.
    await page.screenshot({ path: join(IMAGES, `${name}.png`), clip: { x: 0, y: 0, width: 1280, height: 760 } });
  }
  await context.close();
});

const directory = process.env.SCREENSHOTS;
if (directory !== undefined) {
  for (const fleet of ["full", "empty"]) {
    test(`all, ${fleet}`, async ({ stage, browser }) => {
      if (fleet === "full") await follow(stage);
      else {
        stage.fleet("empty");
        await stage.serve();
      }
      const some = fleet === "full" ? pages(stage) : { overview: "/", servers: "/servers", apps: "/apps", history: "/history" };
      for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]] as const) {
        const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 800 } });
        await stage.open(context);
        const page = await context.newPage();
        for (const [name, path] of Object.entries(some)) {
          await page.goto(stage.address + path);
          await page.screenshot({ path: join(directory, `${fleet}-${name}-${scheme}-${width}.png`), fullPage: true });
        }
        await context.close();
      }
    });
  }
}
