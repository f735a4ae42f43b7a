import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

import AxeBuilder from "@axe-core/playwright";

import { complaints, expect, follow, HOSTILE, pages, test } from "../stage.js";

for (const [name, options] of Object.entries({
  light: { colorScheme: "light" as const },
  dark: { colorScheme: "dark" as const },
  narrow: { viewport: { width: 320, height: 640 } },
})) {
  test(`every page can be used by everybody: ${name}`, async ({ stage, browser }) => {
    test.setTimeout(120_000);
    await follow(stage);
    const context = await browser.newContext(options);
    await stage.open(context);
    const page = await context.newPage();
    const found = complaints(page);
    for (const [title, path] of Object.entries(pages(stage))) {
      await page.goto(stage.address + path);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const told = violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(" | ")}`);
      expect(told, title).toEqual([]);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      expect(wide, `${title} scrolls sideways`).toBeLessThanOrEqual(0);
      expect(await page.title(), title).not.toContain("owned");
    }
    expect(found).toEqual([]);
    await context.close();
  });
}

test("hostile text is shown as what it is", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  const found = complaints(page);
  for (const path of ["/servers/web-stage", "/history", "/apps/web", "/choose?app=web&server=web-1", `/servers?q=${encodeURIComponent(HOSTILE)}`, `/nothing/${encodeURIComponent(HOSTILE)}`]) {
    const response = await page.goto(stage.address + path);
    expect(response?.headers()["content-security-policy"], path).toContain("default-src 'none'");
    await expect(page).not.toHaveTitle(/owned/);
    await expect(page.locator("main script, main img")).toHaveCount(0);
  }
  await page.goto(`${stage.address}/servers/web-stage`);
  await expect(page.getByText(HOSTILE).first()).toBeVisible();
  // What reorders text is shown by its number.
  await expect(page.getByText("\\u{202e}").first()).toBeVisible();
  expect(found).toEqual([]);
});

test("what is typed and ticked survives a live update, and focus stays", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers`);
  await page.getByRole("checkbox", { name: "Select api-2" }).check();
  await page.getByRole("link", { name: "web-4" }).focus();
  stage.fleet("report", "web-4", stage.releases("web")[1], "converged");
  await expect(page.getByRole("row").filter({ hasText: "web-4" }).getByText("converged")).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Select api-2" })).toBeChecked();
  await expect(page.getByRole("link", { name: "web-4" })).toBeFocused();

  await page.getByLabel("Filter", { exact: true }).focus();
  await page.keyboard.type("web-4");
  await expect(page.getByText("1 server of 12 matches")).toBeVisible();
  await expect(page).toHaveURL(/q=web-4/);
  stage.fleet("report", "web-4", stage.releases("web")[1], "quarantined");
  await expect(page.getByText("rolled back")).toBeVisible();
  await expect(page.getByLabel("Filter", { exact: true })).toHaveValue("web-4");
  await expect(page.getByLabel("Filter", { exact: true })).toBeFocused();
});

test("the keyboard is enough", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers`);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("/");
  await page.keyboard.type("api-1");
  await expect(page.getByText("1 server of 12 matches")).toBeVisible();
  const until = async (name: string) => {
    for (let n = 0; n < 40; n += 1) {
      await page.keyboard.press("Tab");
      const here = await page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.getAttribute("aria-label"));
      if (here === name) return;
    }
    throw new Error(`Tab never leads to ${name}`);
  };
  await until("Select api-1");
  await page.keyboard.press("Space");
  await until("Choose a release for selected servers");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Choose an app for api-1" })).toBeVisible();
  await until("api");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Choose a release of api for api-1" })).toBeVisible();
  await until(`Plan ${stage.releases("api")[0].split(":").at(-1)!.slice(0, 12)}`);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Push api to api-1" })).toBeVisible();
  await until("Push api to 1 server");
  await page.keyboard.press("Enter");
  await expect(page.getByText("1 pushed")).toBeVisible();
});

test("a page outlives its server, and follows the next one", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers/web-4`);
  await expect(page.getByText("pending").first()).toBeVisible();
  await stage.stop();
  stage.fleet("report", "web-4", stage.releases("web")[1], "converged");
  await stage.serve();
  await expect(page.getByRole("row").filter({ hasText: "web.service" }).getByText("converged")).toBeVisible({ timeout: 30_000 });
});

test("a bucket out of reach is said, nothing is written, and all is well when it is back", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  const bucket = stage.bucket.replace("file://", "");
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(stage.releases("web")[1])}&server=web-1`);
  const before = stage.desired("web-1", "web");
  await rename(bucket, `${bucket}.away`);
  await expect(page.getByText("The bucket is unreadable.")).toBeVisible();
  await page.getByRole("button", { name: "Push web" }).click();
  await expect(page.getByRole("heading", { name: "Nothing was written" })).toBeVisible();
  await page.goto(`${stage.address}/servers`);
  await expect(page.getByRole("link", { name: "web-1", exact: true })).toBeVisible();
  await rename(`${bucket}.away`, bucket);
  await expect(page.getByText("The bucket is unreadable.")).toBeHidden({ timeout: 40_000 });
  expect(stage.desired("web-1", "web")).toBe(before);
});

test("addresses can be sent to somebody, and the way back leads back", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers?q=state%3Afailed`);
  await expect(page.getByText("2 servers of 12 match")).toBeVisible();
  await page.getByRole("link", { name: "web-2" }).click();
  await expect(page.getByRole("heading", { name: "web-2" })).toBeVisible();
  await page.goBack();
  await expect(page.getByLabel("Filter", { exact: true })).toHaveValue("state:failed");
  await expect(page.getByText("2 servers of 12 match")).toBeVisible();
});

test("an empty bucket says what to do first", async ({ stage, page }) => {
  stage.fleet("empty");
  await stage.serve();
  await page.goto(stage.address);
  await expect(page.getByRole("heading", { name: "No servers yet" })).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
});

test("on a phone everything is large enough for a finger, and servers can be sorted", async ({ stage, browser }) => {
  await follow(stage, "harmless");
  const context = await browser.newContext({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await stage.open(context);
  const page = await context.newPage();
  for (const [title, path] of Object.entries(pages(stage))) {
    await page.goto(stage.address + path);
    const small = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>("a:not(.skip), button, input:not([type=hidden])")]
        .map((element) => [element, element.getBoundingClientRect()] as const)
        .filter(([, box]) => box.width > 0 && (box.width < 24 || box.height < 24))
        .map(([element, box]) => `${element.outerHTML} ${box.width}x${box.height}`),
    );
    expect(small, title).toEqual([]);
    const alone = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>("button, .button, summary, .sort a, .pager a, .top nav a, .bottom a, input[type=text], input[type=search]")]
        .map((element) => [element, element.getBoundingClientRect()] as const)
        .filter(([, box]) => box.width > 0 && (box.width < 44 || box.height < 44))
        .map(([element, box]) => `${element.outerHTML} ${box.width}x${box.height}`),
    );
    expect(alone, title).toEqual([]);
  }
  await page.goto(`${stage.address}/servers?q=web`);
  await page.getByRole("link", { name: "state", exact: true }).tap();
  await expect(page).toHaveURL(/q=web&sort=state/);
  await expect(page.getByRole("rowheader").first()).toContainText("web-2");
  await context.close();
});

test("a server's page says first what is wrong, and pushes link to what they change", async ({ stage, page }) => {
  stage.fleet();
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Links: { Compare: "https://git.example/{repo}/compare/{from}...{to}" } }`);
  await stage.serve("--config", policy);
  await page.goto(`${stage.address}/servers/web-2`);
  await expect(page.locator(".lead")).toHaveText(/^web: web\.service does not stay up/);
  for (const path of ["/", "/history", "/servers/web-2"]) {
    await page.goto(stage.address + path);
    await expect(page.getByRole("link", { name: "compare", exact: true }).first()).toHaveAttribute("href", /^https:\/\/git\.example\/acme\/\w+\/compare\/[0-9a-f]+\.\.\.[0-9a-f]+$/);
  }
});
