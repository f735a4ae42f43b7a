import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { type Locator } from "@playwright/test";

import { expect, test } from "../stage.js";

test("a push to a group takes 5 clicks, a retry 2, and an undo of a push to any number 3", async ({ stage, page }) => {
  stage.fleet("harmless");
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Groups: { prod: { Servers: ["web-1", "web-3", "web-4"] } } }`);
  await stage.serve("--config", policy);
  let clicks = 0;
  const click = async (target: Locator) => {
    clicks += 1;
    await target.click();
  };
  const counted = () => {
    const before = clicks;
    clicks = 0;
    return before;
  };
  const to = stage.releases("web")[4];
  const before = ["web-1", "web-3", "web-4"].map((server) => stage.desired(server, "web"));

  await page.goto(stage.address);
  await click(page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Servers" }));
  // Else the key is pressed on the page before.
  await page.waitForURL("**/servers");
  await page.keyboard.press("/");
  await page.keyboard.type("group:prod");
  await click(page.getByRole("link", { name: "Choose for all 3 servers that match" }));
  await click(page.getByRole("link", { name: "web", exact: true }));
  await click(page.getByRole("row").filter({ hasText: "faster start page" }).getByRole("link", { name: "Plan" }));
  await click(page.getByRole("button", { name: "Push web to 3 servers" }));
  await expect(page.getByText("3 pushed")).toBeVisible();
  expect(counted()).toBe(5);
  const push = page.url();

  stage.fleet("report", "web-1", to, "quarantined");
  await page.goto(`${stage.address}/servers/web-1`);
  await click(page.getByRole("link", { name: "Retry web" }));
  await expect(page.getByText("same release, retried")).toBeVisible();
  await click(page.getByRole("button", { name: "Retry web on 1 server" }));
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(counted()).toBe(2);

  await page.goto(`${stage.address}/history`);
  await click(page.getByRole("link", { name: `web → ${to.split(":").at(-1)!.slice(0, 12)} on 3 servers` }));
  await expect(page).toHaveURL(push);
  await click(page.getByRole("link", { name: "Undo on all" }));
  await click(page.getByRole("button", { name: "Undo on 3 servers" }));
  await expect(page.getByText("3 pushed")).toBeVisible();
  expect(counted()).toBe(3);
  expect(["web-1", "web-3", "web-4"].map((server) => stage.desired(server, "web"))).toEqual(before);
});

test("a release is rejected, pushes are halted and lifted again, and groups compared", async ({ stage, page }) => {
  stage.fleet("harmless");
  await stage.serve();
  const bad = stage.releases("web")[1];
  const commit = bad.split(":").at(-1)!.slice(0, 12);
  await page.goto(`${stage.address}/apps/web`);
  await page.getByRole("link", { name: `Details of ${commit}` }).click();
  await page.getByLabel("Reason").fill("CVE-2026-1234");
  await page.getByRole("button", { name: `Reject ${commit}` }).click();
  await expect(page.getByText("CVE-2026-1234")).toBeVisible();
  await page.goto(`${stage.address}/apps/web`);
  await expect(page.getByText(/^⊘ rejected, still on \d servers?$/)).toBeVisible();

  await page.getByRole("link", { name: "Halt" }).click();
  await page.getByLabel("Reason").fill("database migration");
  await page.getByRole("button", { name: "Halt all pushes" }).click();
  await expect(page.getByText("All pushes are halted.")).toBeVisible();
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(stage.releases("web")[3])}&server=web-1`);
  await expect(page.getByText("not allowed")).toBeVisible();
  await page.getByRole("link", { name: "Lift the halt" }).click();
  await page.getByRole("button", { name: "Lift the halt" }).click();
  await expect(page.getByText("Pushes are not halted.")).toBeVisible();

  await page.goto(`${stage.address}/servers/web-1`);
  await page.getByRole("link", { name: "Compare with other servers" }).click();
  await page.getByLabel("with", { exact: true }).fill("web-3");
  await page.getByRole("button", { name: "Compare" }).click();
  await expect(page.getByText(/web-1 is (ahead|behind)/)).toBeVisible();
});
