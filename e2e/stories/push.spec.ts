import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "../stage.js";

/** The name of the link to the push of a release to two servers. */
const onTwo = (release: string) => `web → ${release.split(":").at(-1)!.slice(0, 12)} on 2 servers`;

test("a push to a group fails on one server, is tried again there, and is undone on all", async ({ stage, page }) => {
  stage.fleet("harmless");
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Groups: { prod: { Servers: ["web-1", "web-3", "web-4"] } } }`);
  await stage.serve("--config", policy);
  const to = stage.releases("web")[4];
  const before = ["web-1", "web-3"].map((server) => stage.desired(server, "web"));
  await page.goto(`${stage.address}/servers?q=group:prod`);
  await page.getByRole("link", { name: "Choose for all 3 servers that match" }).click();
  await page.getByRole("link", { name: "web", exact: true }).click();
  await page.getByRole("row").filter({ hasText: "faster start page" }).getByRole("link", { name: "Plan" }).click();
  await page.getByRole("checkbox", { name: "Include web-4" }).uncheck();
  await page.getByRole("button", { name: "Push web to 2 servers" }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  const push = page.url();

  // Agents report: the page follows by itself.
  stage.fleet("report", "web-1", to, "quarantined");
  stage.fleet("report", "web-3", to, "converged");
  await expect(page.getByText("1 rolled back, 1 runs it").or(page.getByText("1 runs it, 1 rolled back"))).toBeVisible();
  await page.getByRole("link", { name: "Retry on the failed" }).click();
  await expect(page.getByRole("checkbox", { name: "Include web-1" })).toBeChecked();
  await expect(page.getByRole("checkbox", { name: "Include web-3" })).toHaveCount(0);
  await page.getByRole("button", { name: "Retry on 1 server" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("web-1", "web")).toBe(to);

  // One row in the history, from which all of it is taken back.
  await page.goto(`${stage.address}/history`);
  await page.getByRole("link", { name: onTwo(to) }).click();
  await expect(page).toHaveURL(push);
  await page.getByRole("link", { name: "Undo on all" }).click();
  await page.getByLabel("Reason").fill("it is not faster");
  await page.getByRole("button", { name: "Undo on 2 servers" }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  expect(["web-1", "web-3"].map((server) => stage.desired(server, "web"))).toEqual(before);
  expect(stage.push("history", "web-3").pushes[0]).toMatchObject({ kind: "undo", why: "it is not faster" });
});

test("two operators see each other's pushes, and only one undoes a push", async ({ stage, page, context }) => {
  stage.fleet("harmless");
  await stage.serve();
  const other = await context.newPage();
  await other.goto(stage.address);
  const to = stage.releases("web")[4];
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&server=web-1&server=web-3`);
  await page.getByRole("button", { name: "Push web to 2 servers" }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  // Nobody loads the other page.
  await other.getByRole("link", { name: onTwo(to) }).click();
  await expect(other).toHaveURL(page.url());
  for (const one of [page, other]) await one.getByRole("link", { name: "Undo on all" }).click();
  await page.getByRole("button", { name: "Undo on 2 servers" }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  await other.getByRole("button", { name: "Undo on 2 servers" }).click();
  await expect(other.getByRole("alert")).toContainText("Nothing was written");
  await expect(other.getByText("somebody has pushed web since").first()).toBeVisible();
});

test("what a killed process has left is shown by the next one, and continued", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const to = stage.releases("web")[4];
  stage.fleet("cut-off", to, "web-1", "web-3");
  const before = stage.desired("web-3", "web");
  await page.goto(`${stage.address}/history`);
  await expect(page.getByText("cut off")).toBeVisible();
  await stage.stop("SIGKILL");
  await stage.serve();
  await page.getByRole("link", { name: onTwo(to) }).click();
  await expect(page.getByText("1 server not written yet")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before);
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  await expect(page.getByRole("button", { name: "Continue" })).toHaveCount(0);
  expect(stage.desired("web-3", "web")).toBe(to);
  const [first, second] = ["web-1", "web-3"].map((server) => stage.push("history", server).pushes[0]);
  expect(first.push).toBe(second.push);
});

test("on a phone without JavaScript a push is followed, and undone", async ({ stage, browser }) => {
  stage.fleet("harmless");
  await stage.serve();
  const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, javaScriptEnabled: false };
  const context = await browser.newContext(phone);
  await stage.open(context);
  const page = await context.newPage();
  const [to, before] = [stage.releases("web")[4], stage.desired("web-3", "web")];
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&server=web-3`);
  await page.getByRole("button", { name: "Push web to 1 server" }).tap();
  await expect(page.getByText("1 pushed")).toBeVisible();
  stage.fleet("report", "web-3", to, "converged");
  await expect(async () => {
    await page.reload();
    await expect(page.getByText("1 runs it")).toBeVisible({ timeout: 100 });
  }).toPass();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wide).toBeLessThanOrEqual(0);
  await page.getByRole("link", { name: "Undo", exact: true }).tap();
  await page.getByRole("button", { name: "Undo on 1 server" }).tap();
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before);
  await context.close();
});

test("a server is retired, and restored as it was", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const before = stage.desired("web-3", "web");
  await page.goto(`${stage.address}/servers/web-3`);
  await page.getByRole("link", { name: "Retire" }).click();
  await expect(page.getByText("what runs there keeps running")).toBeVisible();
  await page.getByLabel("Reason").fill("sold");
  await page.getByRole("button", { name: "Retire web-3" }).click();
  await expect(page.getByText("1 retired")).toBeVisible();
  const push = page.url();
  expect(() => stage.desired("web-3", "web")).toThrow();
  await page.goto(push);
  await page.getByRole("link", { name: "Undo", exact: true }).click();
  await expect(page.getByRole("checkbox", { name: "web-3" })).toBeChecked();
  await page.getByLabel("Reason").fill("the sale fell through");
  await page.getByRole("button", { name: "Restore the selected servers" }).click();
  await expect(page.getByText("the sale fell through")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before);
  expect(stage.push("history", "web-3").pushes[0]).toMatchObject({ kind: "undo", why: "the sale fell through" });
});
