import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, freePort, type Stage, test } from "../stage.js";

const POLICY = `{
  Servers: { "web-1": { AppNames: ["web"] }, "api-1": { AppNames: ["api", "backup"] } },
  Groups: { prod: { Servers: ["web-1"], RequireReason: true, ForbidDirty: true } },
  Roles: [
    { Role: "viewer", Who: ["viewer@acme.example"] },
    { Role: "deployer", Who: ["dev@acme.example"] },
  ],
}`;

const serve = async (stage: Stage): Promise<string> => {
  stage.fleet();
  const file = join(stage.directory, "skiapush.conf");
  writeFileSync(file, POLICY);
  const host = `127.0.0.1:${await freePort()}`;
  stage.address = `http://${host}`;
  const proxy = ["--auth", "proxy", "--proxy-header", "X-Who", "--proxy-trusted", "127.0.0.1/32", "--public-host", host];
  await stage.serve("--config", file, ...proxy);
  return file;
};

test("a viewer sees no buttons, and may not push by hand either", async ({ stage, browser }) => {
  await serve(stage);
  const page = await browser.newPage({ extraHTTPHeaders: { "X-Who": "viewer@acme.example" } });
  for (const path of ["/servers", "/servers/web-1", "/apps/web", "/history"]) {
    await page.goto(stage.address + path);
    await expect(page.getByText("viewer@acme.example")).toBeVisible();
    await expect(page.getByRole("link", { name: /Change|Roll back|Choose|Undo/ })).toHaveCount(0);
    await expect(page.getByRole("checkbox")).toHaveCount(0);
  }
  const [to, from] = [stage.releases("web")[1], stage.desired("web-1", "web")];
  const answer = await page.request.post(`${stage.address}/push`, {
    form: { kind: "deploy", target: `web-1 ${from} ${to}`, reason: "by hand" },
    headers: { Origin: stage.address },
  });
  expect(answer.status()).toBe(403);
  expect(stage.desired("web-1", "web")).toBe(from);
  await page.close();
});

test("whoever hasn't opened the printed address looks, and may not push by hand either", async ({ stage, browser }) => {
  stage.fleet();
  await stage.serve();
  const context = await browser.newContext();
  const page = await context.newPage();
  for (const path of ["/servers", "/servers/web-1", "/apps/web", "/history"]) {
    await page.goto(stage.address + path);
    await expect(page.getByText("Read-only: to push, open the address")).toBeVisible();
    await expect(page.getByRole("link", { name: /Change|Roll back|Choose|Undo/ })).toHaveCount(0);
    await expect(page.getByRole("checkbox")).toHaveCount(0);
  }
  const [to, from] = [stage.releases("web")[1], stage.desired("web-1", "web")];
  const form = { kind: "deploy", target: `web-1 ${from} ${to}`, reason: "by hand" };
  const answer = await page.request.post(`${stage.address}/push`, { form, headers: { Origin: stage.address } });
  expect(answer.status()).toBe(401);
  expect(stage.desired("web-1", "web")).toBe(from);
  await stage.open(context);
  await page.goto(`${stage.address}/servers/web-1`);
  await expect(page.getByRole("link", { name: "Change the release of web" })).toBeVisible();
  await context.close();
});

test("who is given no role isn't let in, nor who isn't signed in", async ({ stage }) => {
  await serve(stage);
  expect((await fetch(stage.address, { headers: { "X-Who": "outsider@evil.example" } })).status).toBe(403);
  expect((await fetch(stage.address)).status).toBe(401);
});

test("the policy binds a deployer: what may go where, a reason, nothing dirty", async ({ stage, browser }) => {
  const file = await serve(stage);
  const page = await browser.newPage({ extraHTTPHeaders: { "X-Who": "dev@acme.example" } });
  const plan = (app: string, n: number, server: string) =>
    page.goto(`${stage.address}/plan?release=${encodeURIComponent(stage.releases(app)[n])}&server=${server}`);
  await plan("web", 0, "web-1");
  await expect(page.getByText("not allowed")).toBeVisible();
  await expect(page.getByText("No changes to push.")).toBeVisible();
  await plan("api", 0, "web-1");
  await expect(page.getByText(/does not allow \w+ on web-1; allowed: web/)).toBeVisible();
  await plan("web", 1, "web-1");
  await expect(page.getByLabel("Reason")).toHaveAttribute("required", "");
  await page.getByLabel("Reason").fill("it is time");
  await page.getByRole("button", { name: "Push web" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();

  // An app that the rules name and nobody has chosen yet is shown, and is not written.
  await page.goto(`${stage.address}/servers/api-1`);
  await expect(page.getByRole("row").filter({ hasText: "backup" }).getByText("no release chosen")).toBeVisible();

  // A mistake in the file keeps the rules before it, and says so.
  writeFileSync(file, POLICY.replace("AppNames", "AppName"));
  await page.goto(`${stage.address}/servers`);
  await expect(page.getByText("did you mean AppNames?")).toBeVisible();
  await plan("api", 0, "web-1");
  await expect(page.getByText(/does not allow \w+ on web-1; allowed: web/)).toBeVisible();
  await page.close();
});

test("another site can't push for who is signed in here", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  const [to, from] = [stage.releases("web")[1], stage.desired("web-1", "web")];
  const body = new URLSearchParams({ kind: "deploy", target: `web-1 ${from} ${to}` });
  for (const headers of [{ Origin: "https://evil.example" }, { "Sec-Fetch-Site": "cross-site", Origin: stage.address }]) {
    const answer = await page.request.post(`${stage.address}/push`, {
      data: body.toString(),
      headers: { "Content-Type": "application/x-www-form-urlencoded", ...headers },
    });
    expect(answer.status()).toBe(403);
  }
  expect(stage.desired("web-1", "web")).toBe(from);
});
