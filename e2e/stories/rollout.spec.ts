import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import AxeBuilder from "@axe-core/playwright";

import { expect, test } from "../stage.js";

test("a rollout is begun in a plan, stops in its second wave, and is undone", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const to = stage.releases("web")[4];
  const servers = ["web-1", "web-3", "web-4"];
  const before = servers.map((server) => stage.desired(server, "web"));
  const query = servers.map((server) => `server=${server}`).join("&");
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&${query}`);
  await page.getByText("In waves", { exact: true }).click();
  await page.getByLabel("Waves", { exact: true }).fill("web-1,web-3,rest");
  await page.getByLabel("Must stay converged for").fill("0s");
  await page.getByLabel("Out of a group at a time, at most").fill("3");
  await page.getByLabel("Reason").fill("faster start page");
  await page.getByRole("button", { name: "Push web to 3 servers" }).click();
  await expect(page.getByRole("heading", { name: "Rollout" })).toBeVisible();
  const place = page.url();

  // Nobody loads the page again: it follows.
  await expect(page.getByText("Waiting for a report of web-1")).toBeVisible();
  await expect(page.getByText("wave 1 of 3")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before[1]);
  stage.fleet("report", "web-1", to, "converged");
  await expect(page.getByText("Waiting for a report of web-3")).toBeVisible();
  await page.getByLabel("Reason (optional)").fill("it crashes");
  stage.fleet("report", "web-3", to, "quarantined");
  await expect(page.getByText("stopped in wave 2 of 3")).toBeVisible();
  await expect(page.getByText("1 server failed: web-3.")).toBeVisible();
  expect(stage.desired("web-4", "web")).toBe(before[2]);
  await expect(page.getByLabel("Reason (optional)")).toHaveValue("it crashes");
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);

  await page.goto(`${stage.address}/history`);
  await expect(page.getByText("stopped in wave 2 of 3")).toHaveCount(1);
  await page.goto(place);
  await page.getByLabel("Reason (optional)").fill("it crashes");
  await page.getByRole("button", { name: "Undo on 2 servers" }).click();
  await expect(page.getByText("undone", { exact: false }).first()).toBeVisible();
  await expect(async () => {
    expect(servers.map((server) => stage.desired(server, "web"))).toEqual(before);
  }).toPass();
  expect(stage.push("history", "web-3").pushes[0]).toMatchObject({ kind: "undo", why: "it crashes" });
  expect(stage.push("history", "web-4").pushes.filter((push: { to: string }) => push.to?.includes(to))).toEqual([]);
});

test("whoever is on a server keeps others' pushes away in one click", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  await page.goto(`${stage.address}/servers/web-1`);
  await page.getByRole("button", { name: "I am on it" }).click();
  await expect(page.getByText(/on hold by dev@?.*, expires in 2 h/)).toBeVisible();
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(stage.releases("web")[4])}&server=web-1&server=web-3`);
  await expect(page.getByRole("heading", { name: "On hold by you: 1 server" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Push web to 1 server" })).toBeEnabled();
  await page.getByLabel("Also push to 1 server that you have put on hold.").check();
  await expect(page.getByRole("button", { name: "Push web to 2 servers" })).toBeEnabled();
  await page.goto(`${stage.address}/servers/web-1`);
  await page.getByRole("button", { name: "Resume" }).click();
  await expect(page.getByRole("button", { name: "Resume" })).toHaveCount(0);
});

test("a plan shows the waves that the policy asks for, and others before they are pushed", async ({ stage, page }) => {
  stage.fleet("harmless");
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Groups: { prod: { Servers: ["web-1", "web-3", "web-4"], Waves: "1,rest", MaxDown: 1 } } }`);
  await stage.serve("--config", policy);
  const to = stage.releases("web")[4];
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&q=group:prod`);
  await expect(page.getByText("asks for these waves for group")).toBeVisible();
  await expect(page.getByText("Group prod: at most 1 of 3 out at a time")).toBeVisible();
  await page.getByLabel("Waves", { exact: true }).fill("web-4,rest");
  await page.getByRole("button", { name: "Show waves" }).click();
  await expect(page.getByRole("row", { name: "1 web-4 1 web-4" })).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  expect(stage.desired("web-4", "web")).not.toBe(to);
  await page.getByRole("button", { name: /^Push/ }).click();
  await expect(page.getByRole("heading", { name: "Rollout" })).toBeVisible();
  await expect(async () => expect(stage.desired("web-4", "web")).toBe(to)).toPass();
  expect(stage.desired("web-1", "web")).not.toBe(to);
});

test("a failed server uses the budget up, and a person allows more to be out", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const to = stage.releases("web")[4];
  const before = stage.desired("web-3", "web");
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&server=web-1&server=web-3`);
  await page.getByText("In waves", { exact: true }).click();
  await page.getByLabel("Waves", { exact: true }).fill("rest");
  await page.getByLabel("Must stay converged for").fill("0s");
  await page.getByLabel("Stop when so many servers fail").fill("2");
  await page.getByLabel("Out of a group at a time, at most").fill("1");
  await page.getByRole("button", { name: "Push web to 2 servers" }).click();
  await expect(page.getByText("Waiting until fewer servers are out: 1 of 2 out, 1 allowed")).toBeVisible();
  const place = page.url();
  stage.fleet("report", "web-1", to, "degraded");
  await expect(page.locator("#rollout").getByText("1 degraded")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before);

  // A number that allows no more is refused, and says so.
  await page.getByLabel("Out of a group at a time, at most").fill("1");
  await page.getByRole("button", { name: "Allow more out" }).click();
  await expect(page.getByText("is no more than may be out at a time already")).toBeVisible();
  await page.goto(place);
  await page.getByLabel("Reason (optional)").fill("web-1 gets a new disk");
  await page.getByLabel("Out of a group at a time, at most").fill("2");
  await page.getByRole("button", { name: "Allow more out" }).click();
  await expect(page.getByText("2 of 2 out, 2 allowed")).toBeVisible();
  await expect(page.getByText("web-1 gets a new disk")).toBeVisible();
  await expect(page.getByText("Waiting for a report of web-1, web-3")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(to);
});

test("a hold is marked where its server is listed, and the mark goes when it ends", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const push = `/pushes/${stage.push("history", "web-2").pushes[0].id}`;
  const marked = "on hold, expires in 2 h";
  const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: "web-2", exact: true }) });
  await page.goto(`${stage.address}/`);
  await expect(row.first()).toBeVisible();
  await expect(page.getByText(marked)).toHaveCount(0);
  const other = await page.context().newPage();
  await other.goto(`${stage.address}/servers/web-2`);
  await other.getByRole("button", { name: "I am on it" }).click();
  // Nobody loads the page again.
  await expect(page.locator("#attention").getByRole("row").filter({ hasText: marked })).toHaveText(/^\s*web-2/);
  // The page of an app has it among all that have a release, and among those where it failed.
  for (const [path, places] of [[push, 1], ["/servers?q=web", 1], ["/apps/web", 2]] as const) {
    await page.goto(stage.address + path);
    await expect(row.getByText(marked).first(), path).toBeVisible();
    await expect(page.getByText(marked), path).toHaveCount(places);
  }
  await page.goto(stage.address + push);
  await other.getByRole("button", { name: "Resume" }).click();
  await expect(page.getByText(marked)).toHaveCount(0);
  await other.close();
});

test("an admin pushes all at once where waves are asked for, and that stays marked", async ({ stage, page }) => {
  stage.fleet("harmless");
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Groups: { prod: { Servers: ["web-1", "web-3"], Waves: "1,rest" } } }`);
  await stage.serve("--config", policy);
  const to = stage.releases("web")[4];
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(to)}&q=group:prod`);
  await page.getByLabel("Waves", { exact: true }).fill("all");
  await page.getByRole("button", { name: /^Push/ }).click();
  await expect(page.getByText("requires a reason")).toBeVisible();
  expect(stage.desired("web-1", "web")).not.toBe(to);
  await page.goBack();
  await page.getByLabel("Waves", { exact: true }).fill("all");
  await page.getByLabel("Reason").fill("the site is down");
  await page.getByRole("button", { name: /^Push/ }).click();
  await expect(page.getByText("2 pushed")).toBeVisible();
  await expect(page.getByText("all at once", { exact: true })).toBeVisible();
  expect(["web-1", "web-3"].map((server) => stage.desired(server, "web"))).toEqual([to, to]);
  for (const path of ["/", "/history", "/history?server=web-3"]) {
    await page.goto(stage.address + path);
    const row = page.getByRole("row").filter({ hasText: "the site is down" });
    await expect(row.getByText("all at once", { exact: true }), path).toBeVisible();
    await expect(page.getByText("all at once", { exact: true }), path).toHaveCount(1);
  }
});
