import { readFileSync } from "node:fs";

import { complaints, expect, follow, HOSTILE, test } from "../stage.js";

test("a run is looked at from its project and from the release that it made", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  const found = complaints(page);
  await page.goto(stage.address);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Runs" }).click();
  await page.getByRole("link", { name: "acme" }).click();
  await expect(page.getByText("The last 3 runs")).toBeVisible();
  const passed = page.getByRole("row").filter({ has: page.getByRole("link", { name: "20 Nov 19:05:02" }) });
  await expect(passed).toContainText("passed");
  await passed.getByRole("link").click();
  const candidate = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "candidate" }) });
  await expect(candidate).toContainText("unit, lint");
  await expect(candidate).toContainText("38s");
  await page.getByText("Stage candidate published").getByRole("link").click();
  await expect(page.getByText("Made by a run of acme, pipeline web, stage candidate")).toBeVisible();
  await page.getByRole("link", { name: "run of acme" }).click();
  await expect(page).toHaveURL(/\/runs\/acme\/20261120T190502Z-passed$/);
  expect(found).toEqual([]);
});

test("a file of a run is saved under a harmless name and never shown", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/runs/acme/20261121T080000Z-failed`);
  await expect(page.getByText("skipped")).toBeVisible();
  const saving = page.waitForEvent("download");
  await page.getByRole("link", { name: "<b>.html" }).click();
  const saved = await saving;
  expect(saved.suggestedFilename()).toBe("_b_.html");
  expect(readFileSync(await saved.path(), "utf8")).toContain(HOSTILE);
  const address = await page.getByRole("link", { name: "<b>.html" }).getAttribute("href");
  const answer = await page.request.get(stage.address + address);
  expect(answer.headers()["content-type"]).toBe("application/octet-stream");
  expect(answer.headers()["x-content-type-options"]).toBe("nosniff");
  await expect(page).not.toHaveTitle(/owned/);
});

test("a channel shows the last run of each commit", async ({ stage, page }) => {
  await follow(stage);
  await page.goto(`${stage.address}/channels/web/prod`);
  const commits = page.locator("#later").getByRole("row");
  const without = commits.filter({ has: page.getByRole("rowheader", { name: "0".repeat(12) }) });
  await expect(without).toContainText("failed");
  await expect(without.getByRole("link")).toHaveAttribute("href", "/runs/acme/20261121T080000Z-failed");
  const released = commits.filter({ has: page.getByRole("link", { name: "20 Nov 19:05:02" }) });
  await expect(released).toContainText("passed");
  await expect(page.locator("#moves")).toContainText("none known");
});
