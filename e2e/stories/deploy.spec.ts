import { expect, realServer, test } from "../stage.js";

test("an operator chooses a release, a real agent installs it, and the page follows", async ({ stage, page }) => {
  test.setTimeout(180_000);
  const real = await realServer();
  try {
    stage.bucket = real.bucket;
    await stage.serve();
    await page.goto(`${stage.address}/servers/web-1`);
    await expect(page.getByText("Reported")).toBeVisible();

    // The server has no app yet: it is pushed from the app's page of releases.
    await page.goto(`${stage.address}/choose?app=web&server=web-1`);
    const push = async (stem: string) => {
      const commit = stem.split(":").at(-1)!.slice(0, 12);
      const row = page.getByRole("row").filter({ hasText: new Date(stem.match(/\d{4}-.*Z/)![0]).toISOString().slice(11, 16) });
      expect(commit).toHaveLength(12);
      await page.goto(`${stage.address}/plan?release=${encodeURIComponent(stem)}&server=web-1`);
      await expect(row).toBeDefined();
      await page.getByLabel("Reason").fill("to see it");
      await page.getByRole("button", { name: "Push web to 1 server" }).click();
      await expect(page.getByRole("heading", { name: /^web → [0-9a-f]+ on web-1$/ })).toBeVisible();
      await expect(page.getByText("1 pushed")).toBeVisible();
      // Nothing is clicked or loaded from here on: the page follows by itself.
      await expect(page.getByText("1 runs it")).toBeVisible({ timeout: 90_000 });
    };
    await push(real.first);
    await push(real.second);

    await page.goto(`${stage.address}/servers/web-1`);
    await expect(page.getByText("web.service")).toBeVisible();
    await page.getByRole("link", { name: "Roll back web" }).click();
    await expect(page.getByRole("heading", { name: "Roll back web on web-1" })).toBeVisible();
    await page.getByRole("button", { name: /^Roll back web/ }).click();
    await expect(page.getByText("1 runs it")).toBeVisible({ timeout: 90_000 });
    expect(stage.desired("web-1", "web")).toBe(real.first);
  } finally {
    await stage.stop();
    await real.end();
  }
});

test("from the list of servers to the result, by choosing among releases", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers?q=app:api`);
  await page.getByRole("checkbox", { name: "Select api-1" }).check();
  await page.getByRole("button", { name: "Choose a release for selected servers" }).click();
  await page.getByRole("link", { name: "api", exact: true }).click();
  await expect(page.getByRole("heading", { name: "Choose a release of api for api-1" })).toBeVisible();
  const newest = page.getByRole("row").filter({ hasText: "orders: rounding" });
  await expect(newest.getByText("latest")).toBeVisible();
  await newest.getByRole("link", { name: "Plan" }).click();
  await expect(page.getByRole("heading", { name: "Push api to api-1" })).toBeVisible();
  await page.getByLabel("Reason").fill("rounding for yen");
  await page.getByRole("button", { name: "Push api to 1 server" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  await expect(page.getByText("1 pending")).toBeVisible();
  expect(stage.desired("api-1", "api")).toBe(stage.releases("api")[0]);

  // The agent's word arrives: the page follows.
  stage.fleet("report", "api-1", stage.releases("api")[0], "converged");
  await expect(page.getByText("1 runs it")).toBeVisible();
  await page.goto(`${stage.address}/history?server=api-1`);
  await expect(page.getByRole("row").filter({ hasText: "rounding for yen" }).getByText("converged")).toBeVisible();
});

test("all servers that a filter matches are pushed to, each with a result of its own", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers?q=app:web`);
  await page.getByRole("link", { name: "Choose for all 7 servers that match" }).click();
  await page.getByRole("link", { name: "web", exact: true }).click();
  await page.getByRole("row").filter({ hasText: "fix the login page" }).getByRole("link", { name: "Plan" }).click();
  await expect(page.getByText("no change")).toHaveCount(1);
  // One changes while the plan is looked at: it alone is refused.
  const other = stage.releases("web")[5];
  stage.push("deploy", other, "web-3");
  await page.getByRole("button", { name: "Push web to 6 servers" }).click();
  await expect(page.getByText("5 pushed")).toBeVisible();
  await expect(page.getByText("1 not pushed")).toBeVisible();
  await expect(page.getByRole("row").filter({ hasText: "web-3" }).getByText("another push changed")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(other);
  expect(stage.desired("web-2", "web")).toBe(stage.releases("web")[3]);
  await page.getByRole("link", { name: "Push again where it was not pushed" }).click();
  await expect(page.getByRole("heading", { name: "Push web to web-3" })).toBeVisible();
});

test("rows of a plan can be taken out, also without JavaScript", async ({ stage, page, browser }) => {
  stage.fleet();
  await stage.serve();
  const plan = `${stage.address}/plan?release=${encodeURIComponent(stage.releases("web")[3])}&q=app:web`;
  const before = stage.desired("web-3", "web");
  await page.goto(plan);
  await expect(page.getByRole("heading", { name: "Push web to 6 of 7 servers" })).toBeVisible();
  const stays = page.locator("details");
  await expect(stays.getByRole("link")).toBeHidden();
  await page.getByRole("checkbox", { name: "Include web-3" }).uncheck();
  await page.getByRole("checkbox", { name: "Include web-4" }).uncheck();
  await page.getByRole("button", { name: "Push web to 4 servers" }).click();
  await expect(page.getByText("4 pushed")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(before);

  const context = await browser.newContext({ javaScriptEnabled: false });
  await stage.open(context);
  const plain = await context.newPage();
  await plain.goto(plan);
  await expect(plain.getByRole("heading", { name: "Push web to 2 of 7 servers" })).toBeVisible();
  await plain.getByRole("checkbox", { name: "Include web-4" }).uncheck();
  await plain.getByRole("button", { name: "Push web to the selected servers" }).click();
  await expect(plain.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(stage.releases("web")[3]);
  await context.close();
});

test("two tabs race for the same app: one wins, the other is told and writes nothing", async ({ stage, page, context }) => {
  stage.fleet();
  await stage.serve();
  const [one, two] = [stage.releases("web")[4], stage.releases("web")[1]];
  const other = await context.newPage();
  await page.goto(`${stage.address}/plan?release=${encodeURIComponent(one)}&server=web-1`);
  await other.goto(`${stage.address}/plan?release=${encodeURIComponent(two)}&server=web-1`);
  await page.getByRole("button", { name: "Push web" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  await other.getByRole("button", { name: "Push web" }).click();
  await expect(other.getByText("1 not pushed")).toBeVisible();
  const told = other.getByText("another push changed");
  await expect(told).toContainText(one);
  expect(stage.desired("web-1", "web")).toBe(one);
  expect(stage.push("history", "web-1").pushes[0].to).toContain(one);
});

test("rolling back goes to what this server had, and undoing a push takes it back", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  const releases = stage.releases("web");
  await page.goto(`${stage.address}/servers/web-1`);
  await page.getByRole("link", { name: "Roll back web" }).click();
  await page.getByRole("button", { name: "Roll back web on 1 server" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("web-1", "web")).toBe(releases[4]);

  await page.goto(`${stage.address}/history?server=web-3`);
  await page.getByRole("link", { name: "Undo the push of web to web-3" }).click();
  await expect(page.getByRole("heading", { name: "Undo push of web on 1 server" })).toBeVisible();
  await page.getByRole("button", { name: "Undo on 1 server" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("web-3", "web")).toBe(releases[3]);
});

test("without JavaScript everything can be done", async ({ stage, browser }) => {
  stage.fleet();
  await stage.serve();
  const context = await browser.newContext({ javaScriptEnabled: false });
  await stage.open(context);
  const page = await context.newPage();
  await page.goto(`${stage.address}/servers`);
  await page.getByLabel("Filter", { exact: true }).fill("app:api state:converged");
  await page.getByRole("button", { name: "Filter" }).click();
  await expect(page.getByText("1 server of 12 matches")).toBeVisible();
  await page.getByRole("link", { name: "api-1" }).click();
  await page.getByRole("link", { name: "Change the release of api" }).click();
  await page.getByRole("row").filter({ hasText: "rounding" }).getByRole("link", { name: "Plan" }).click();
  await page.getByRole("button", { name: "Push api to 1 server" }).click();
  await expect(page.getByText("1 pushed")).toBeVisible();
  expect(stage.desired("api-1", "api")).toBe(stage.releases("api")[0]);
  await context.close();
});

test("without JavaScript ticks are kept, too, when the filter changes", async ({ stage, browser }) => {
  stage.fleet();
  await stage.serve();
  const context = await browser.newContext({ javaScriptEnabled: false });
  await stage.open(context);
  const page = await context.newPage();
  await page.goto(`${stage.address}/servers?q=web`);
  await page.getByRole("checkbox", { name: "Select web-1" }).check();
  await page.getByRole("checkbox", { name: "Select web-2" }).check();
  const filter = page.getByLabel("Filter", { exact: true });
  await filter.fill("web-2");
  await filter.press("Enter");
  await expect(page.getByText("1 server of 12 matches")).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Select web-2" })).toBeChecked();
  await filter.fill("nothing-like-it");
  await page.getByRole("button", { name: "Filter" }).click();
  await expect(page.getByText("Also selected")).toBeVisible();
  await page.getByRole("checkbox", { name: "web-2" }).uncheck();
  // The choice is for what is ticked, and not for what the filter finds.
  await filter.fill("api");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByRole("checkbox", { name: "Select api-1" }).check();
  await page.getByRole("button", { name: "Choose a release for selected servers" }).click();
  await expect(page.getByRole("heading", { name: "Choose an app for api-1 and web-1" })).toBeVisible();
  await context.close();
});

test("ticks are kept when the filter changes, and what it hides is shown and can be taken back", async ({ stage, page }) => {
  stage.fleet();
  await stage.serve();
  await page.goto(`${stage.address}/servers?q=web`);
  await page.getByRole("checkbox", { name: "Select web-1" }).check();
  await page.getByRole("checkbox", { name: "Select web-2" }).check();
  await page.getByRole("checkbox", { name: "Select web-3" }).check();
  const filter = async (text: string, summary: RegExp) => {
    await page.getByLabel("Filter", { exact: true }).fill(text);
    await expect(page.getByText(summary)).toBeVisible();
  };
  await filter("nobody-has-this", /No server matches/);
  await filter("api", /^2 servers of 12 match$/);
  await page.getByRole("checkbox", { name: "Select api-1" }).check();
  await expect(page.getByText("Also selected:")).toContainText("web-1 web-2 web-3");
  await page.getByRole("checkbox", { name: "web-2", exact: true }).uncheck();
  await filter("web-3", /^1 server of 12 matches$/);
  await expect(page.getByRole("checkbox", { name: "Select web-3" })).toBeChecked();
  await page.getByRole("button", { name: "Choose a release for selected servers" }).click();
  await expect(page.getByRole("heading", { name: "Choose an app for api-1, web-1 and web-3" })).toBeVisible();
});
