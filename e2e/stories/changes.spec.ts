import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import AxeBuilder from "@axe-core/playwright";

import { complaints, expect, HOSTILE, type Stage, test } from "../stage.js";

/** Changes of which the second needs the first, and how the first was built and tried. */
const propose = async (stage: Stage): Promise<string> => {
  const at = new Date().toISOString();
  const release = `lib/lib:dev@ci:2026-11-20T19:05:02Z:${"b".repeat(40)}.deb`;
  const change = (project: string, id: string, more: object) => ({
    schema: 1, project, change: id, patchset: 2, commit: "a".repeat(40), tree: "e".repeat(40), branch: "main", needs: [],
    state: "open", candidates: [], tries: [], updated: at, by: HOSTILE, ...more,
  });
  const built = {
    type: "deb", app: "lib", release, sha256: "0".repeat(64), size: 9, path: `candidates/lib/11/${release}`, build: "k3v9",
    patchset: 2, gate: true, at,
  };
  const tries = [{ buildset: "s1", sha256: [], result: "passed", at }];
  for (const found of [
    change("lib", "11", { candidates: [built], tries }),
    change("web", "12", { needs: ["lib/11"], branch: HOSTILE }),
    change("web", "10", { state: "merged" }),
  ]) {
    const directory = join(stage.directory, "candidates", "changes", found.project);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, `${found.change}.json`), JSON.stringify(found));
  }
  return `file://${join(stage.directory, "candidates")}`;
};

test("open changes are looked at, with what was built, tried and is ahead", async ({ stage, page }) => {
  stage.fleet("harmless");
  const candidates = await propose(stage);
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Links: { Change: "https://git.example/{project}/pull/{change}" } }`);
  await stage.serve("--candidates", candidates, "--config", policy);
  const found = complaints(page);
  await page.goto(stage.address);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Changes" }).click();
  await expect(page.getByText("2 open changes")).toBeVisible();
  const library = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "lib/11" }) });
  await expect(library).toContainText("lib bbbbbbbbbbbb");
  await expect(library).toContainText("gated");
  await expect(library).toContainText("passed");
  const app = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "web/12" }) });
  await expect(app.getByRole("link", { name: "lib/11" })).toHaveAttribute("href", "https://git.example/lib/pull/11");
  await expect(app).toContainText("not tried");
  await expect(page.getByText("web/10")).toHaveCount(0);
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await page.setViewportSize({ width: 320, height: 640 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wide, "it scrolls sideways").toBeLessThanOrEqual(0);
  expect(await page.title()).toBe("Changes · Push");
  expect(found).toEqual([]);
});
