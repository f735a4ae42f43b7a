import { defineConfig } from "@playwright/test";

import { browser } from "./playwright.config.js";

export default defineConfig({
  testDir: "screenshots",
  outputDir: "results",
  workers: 1,
  timeout: 120_000,
  reporter: [["line"]],
  use: { browserName: "chromium", launchOptions: browser },
});
