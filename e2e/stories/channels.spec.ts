import { writeFile } from "node:fs/promises";

import AxeBuilder from "@axe-core/playwright";

import { complaints, expect, follow, test } from "../stage.js";

test("a channel is followed, resumed and set on its page", async ({ stage, page }) => {
  const [policy, ...releases] = await follow(stage, "harmless");
  const found = complaints(page);
  await page.goto(stage.address);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Channels" }).click();
  const row = page.getByRole("row").filter({ hasText: "web prod" });
  await expect(row).toContainText("2 commits behind main");
  await expect(row).toContainText("the fair");
  await expect(row).toContainText("web-2: taken over: rollback by ann@desk-2");
  await expect(page.getByText("no push watch has reported yet")).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await page.getByRole("link", { name: "web prod" }).click();
  await expect(page.getByText("Next round: stays, being frozen; would otherwise move to")).toBeVisible();
  const later = page.getByRole("region", { name: "Commits after it" });
  await expect(later.getByRole("row").filter({ hasText: "000000000000" })).toContainText("none");
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);

  // Nobody loads the page again: it follows, and keeps what is typed.
  await page.getByLabel("Reason", { exact: true }).fill("mended");
  stage.push("channel", "resume", "web", "-m", "mended", "--config", policy);
  await expect(page.getByRole("button", { name: "Freeze" })).toBeVisible();
  await expect(page.getByLabel("Reason", { exact: true })).toHaveValue("mended");
  await page.getByRole("button", { name: "Freeze" }).click();
  await expect(page.getByRole("button", { name: "Resume" })).toBeVisible();
  await page.getByLabel("Point it to").selectOption(releases[1]);
  await page.getByLabel("Reason to point it there").fill("next");
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByText("the newest commit of main")).toBeVisible();
  expect(stage.push("channel", "show", "web", "--config", policy).release).toContain(releases[1]);
  await page.getByLabel("Reason", { exact: true }).fill("slow");
  await page.getByRole("button", { name: /^Roll back to/ }).click();
  await expect(page.getByRole("region", { name: "Moves" }).getByRole("row").nth(1)).toContainText("slow");
  expect(stage.push("channel", "show", "web", "--config", policy).release).toContain(releases[2]);

  await page.goto(`${stage.address}/servers/web-2`);
  await expect(page.getByText("follows prod")).toBeVisible();
  await expect(page.getByText("taken over: rollback by ann@desk-2")).toBeVisible();
  await page.goto(`${stage.address}/apps/web`);
  await expect(page.getByRole("region", { name: "Channels" })).toContainText("2 commits behind main");
  expect(found).toEqual([]);
});

test("a channel is set without JavaScript, and its page fits a narrow screen", async ({ stage, browser }) => {
  const [policy, ...releases] = await follow(stage, "harmless");
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 320, height: 640 } });
  await stage.open(context);
  const page = await context.newPage();
  const until = (text: string) =>
    expect(async () => {
      await page.goto(`${stage.address}/channels/web/prod`);
      await expect(page.getByText(text)).toBeVisible({ timeout: 500 });
    }).toPass();
  await until("2 commits behind main");
  for (const path of ["/channels", "/channels/web/prod"]) {
    await page.goto(stage.address + path);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(wide, `${path} scrolls sideways`).toBeLessThanOrEqual(0);
  }
  await page.getByLabel("Point it to").selectOption(releases[0]);
  await page.getByLabel("Reason to point it there").fill("hotfix");
  // Somebody was faster.
  stage.push("channel", "resume", "web", "-m", "mended", "--config", policy);
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByText("the channel has changed since you saw it")).toBeVisible();
  expect(stage.push("channel", "show", "web", "--config", policy).release).toContain(releases[2]);
  await until("Next round: moves to");
  await page.getByLabel("Point it to").selectOption(releases[0]);
  await page.getByLabel("Reason to point it there").fill("hotfix");
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByRole("region", { name: "Moves" }).getByRole("row").nth(1)).toContainText("hotfix");
  expect(stage.push("channel", "show", "web", "--config", policy).release).toContain(releases[0]);
  await context.close();
});

test("a release that has not gone through the channel before is set only by who says so", async ({ stage, page }) => {
  const [policy, ...releases] = await follow(stage, "harmless");
  const repo = 'App: "web", Repo: "https://git.example/web.git"';
  await writeFile(policy, `{ Channels: [{ ${repo}, Servers: ["web-*"], From: "beta", Soak: "1h" }, { ${repo}, Channel: "beta" }] }`);
  const set = async () => {
    await page.getByLabel("Point it to").selectOption(releases[0]);
    await page.getByLabel("Reason to point it there").fill("hotfix");
    await page.getByRole("button", { name: "Set", exact: true }).click();
  };
  const past = page.getByLabel("Also if it has not gone through beta");
  await expect(async () => {
    await page.goto(`${stage.address}/channels/web/prod`);
    await expect(past).toBeVisible({ timeout: 500 });
    // Only then does the page know what it would change.
    await expect(page.getByText("the fair").first()).toBeVisible({ timeout: 500 });
  }).toPass();
  await set();
  await expect(page.getByText("has not gone through the channel")).toBeVisible();
  expect(stage.push("channel", "show", "web", "--config", policy).release).toContain(releases[2]);
  await page.goto(`${stage.address}/channels/web/prod`);
  await past.check();
  await set();
  const first = page.getByRole("region", { name: "Moves" }).getByRole("row").nth(1);
  await expect(first).toContainText("hotfix");
  await expect(first).toContainText("without soak");
  expect(stage.push("channel", "show", "web", "--config", policy).history[0].without_soak).toBe(true);
});

test("without channels nothing leads to them", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  await page.goto(stage.address);
  await expect(page.getByRole("navigation", { name: "Main" }).getByRole("link")).toHaveText(["Overview", "Servers", "Apps", "Runs", "History"]);
  await page.goto(`${stage.address}/channels`);
  await expect(page.getByRole("heading", { name: "No channels" })).toBeVisible();
});
