// What the stories are played on: a bucket of their own, and a real `push serve` over it.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { test as base, type BrowserContext, expect, type Page } from "@playwright/test";

const PROGRAMS = fileURLToPath(new URL("../target/debug", import.meta.url));

/** Text that does harm wherever it isn't escaped; the fleet has it in every field that can carry any. */
export const HOSTILE = "<script>document.title='owned'</script>";

/** A line that a process prints, as soon as it is there; fails with all that was said if the process ends before. */
const line = (child: ChildProcess, from: "stdout" | "stderr", fits: RegExp): Promise<string> =>
  new Promise((resolve, reject) => {
    const said: string[] = [];
    const stream = child[from];
    if (stream === null) throw new Error(`${from} isn't read`);
    createInterface({ input: stream }).on("line", (text) => {
      said.push(text);
      if (fits.test(text)) resolve(text);
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said.join("\n")}`)));
  });

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once("exit", () => resolve());
  });

/** A port of loopback that is free, for what must know its own address before it listens. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });

/** A bucket in a directory, and the web app over it. */
export class Stage {
  constructor(private readonly context?: BrowserContext) {}

  readonly directory = mkdtempSync(join(tmpdir(), "push-e2e-"));
  bucket = `file://${join(this.directory, "bucket")}`;
  address = "";
  private printed: string | undefined;
  private server: ChildProcess | undefined;

  /** Fills the bucket with servers and releases in every state. */
  fleet(...words: string[]): void {
    execFileSync("mkdir", ["-p", this.bucket.replace("file://", "")]);
    execFileSync(join(PROGRAMS, "fleet"), [this.bucket, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  }

  /** Runs the command, and gives the document that it prints. */
  push(...words: string[]): any {
    const all = ["--bucket", this.bucket, "--json", ...words];
    return JSON.parse(execFileSync(join(PROGRAMS, "push"), all, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }));
  }

  /** The names of an app's releases, newest first. */
  releases(app: string): string[] {
    return this.push("list", app).releases.map((release: { release: string }) =>
      release.release.replace(/^[^/]*\//, "").replace(/\.deb$/, ""),
    );
  }

  /** The release of an app that a server's document names. */
  desired(server: string, app: string): string | undefined {
    const path = join(this.bucket.replace("file://", ""), "server", `${server}.json`);
    const named = (JSON.parse(readFileSync(path, "utf8")) as string[]).find((name) => name.startsWith(`${app}/`));
    return named?.replace(/^[^/]*\//, "").replace(/\.deb$/, "");
  }

  /** Serves; at the address of before when it was served before. */
  async serve(...words: string[]): Promise<void> {
    const listen = this.address === "" ? "127.0.0.1:0" : new URL(this.address).host;
    const all = ["--bucket", this.bucket, "serve", "--listen", listen, "--refresh", "1s", ...words];
    this.server = spawn(join(PROGRAMS, "push"), all, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, PUSH_USER: "dev" },
    });
    const [said, printed] = await Promise.all([
      line(this.server, "stderr", /serving on http/),
      // Where a proxy signs people in there is no token.
      words.includes("proxy") ? "" : line(this.server, "stdout", /token=/),
    ]);
    this.address = said.replace(/.*?(http:[^ ]*)\/( .*)?$/, "$1");
    this.printed = printed.match(/http:[^ ]*/)?.[0];
    await expect(async () => expect((await fetch(`${this.address}/readyz`)).ok).toBe(true)).toPass();
    if (this.context !== undefined) await this.open(this.context);
  }

  /** Opens the address that is printed, once, as an operator does: from then on the browser may push. */
  async open(context: BrowserContext): Promise<void> {
    if (this.printed === undefined) return;
    const page = await context.newPage();
    await page.goto(this.printed);
    expect(page.url()).toBe(`${this.address}/`);
    await page.close();
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.server === undefined) return;
    this.server.kill(signal);
    await ended(this.server);
    this.server = undefined;
  }

  async strike(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A real server with a real agent, in a container; it lives until `end` is called. */
export const realServer = async (): Promise<{ bucket: string; first: string; second: string; end: () => Promise<void> }> => {
  const child = spawn(join(PROGRAMS, "one"), { stdio: ["pipe", "pipe", "inherit"] });
  const said = JSON.parse(await line(child, "stdout", /^\{/));
  const end = async () => {
    child.stdin?.end();
    await ended(child);
  };
  return { ...said, end };
};

/** Every page, by name, as an address of the full fleet. */
export const pages = (stage: Stage): Record<string, string> => {
  const release = encodeURIComponent(stage.releases("web")[1]);
  const push = `/pushes/${stage.push("history", "web-3").pushes[0].id}`;
  stage.push("deploy", stage.releases("web")[1], "web-1", "web-3", "--waves", "1,rest", "-m", "in two waves");
  const rollout = `/pushes/${stage.push("rollout", "list").rollouts[0].id}`;
  return {
    overview: "/",
    servers: "/servers",
    "servers filtered": "/servers?q=state%3Aattention&sort=state",
    "servers with a wrong filter": "/servers?q=stat%3Afailed",
    server: "/servers/web-2",
    "server with hostile text": "/servers/web-stage",
    apps: "/apps",
    app: "/apps/web",
    channels: "/channels",
    channel: "/channels/web/prod",
    history: "/history",
    "history of a server": "/history?server=web-1",
    push,
    "undo of a push": `${push}/undo`,
    "a rollout": rollout,
    "choose an app": "/choose?server=web-1&server=web-2",
    "choose a release": "/choose?app=web&server=web-1",
    plan: `/plan?release=${release}&q=app%3Aweb`,
    "plan of a retry": "/plan?retry=web&q=app%3Aweb",
    "plan of a removal": "/plan?remove=web&server=web-1",
    "retire a server": "/servers/web-2/retire",
    release: `/releases/${release}`,
    runs: "/runs",
    "runs of a project": "/runs/acme",
    "a run": "/runs/acme/20261120T190502Z-passed",
    "a run with hostile text": "/runs/acme/20261121T080000Z-failed",
    halt: "/halt",
    compare: "/compare?left=web-1&right=app%3Aweb",
    "nothing there": "/servers/nobody",
  };
};

/** Serves a fleet whose web servers follow a channel that points to the third release of web, seen with two commits after it. Gives
 * the policy file, and the releases. */
export const follow = async (stage: Stage, ...fleet: string[]): Promise<string[]> => {
  stage.fleet(...fleet);
  const policy = join(stage.directory, "skiapush.conf");
  await writeFile(policy, `{ Channels: [{ App: "web", Repo: "https://git.example/web.git", Servers: ["web-*"] }] }`);
  await stage.serve("--config", policy);
  const releases = stage.releases("web");
  stage.push("channel", "set", releases[2], "-m", "the fair", "--config", policy);
  const commit = (release: string) => release.replace(/^.*:/, "");
  const state = {
    schema: 1, app: "web", channel: "prod", at: new Date().toISOString(),
    release: `web/${releases[2]}.deb`, place: 7, behind: 2, would: `web/${releases[1]}.deb`, followers: 7,
    off: [{ server: "web-2", state: "left-alone", why: "taken over: rollback by ann@desk-2 at 2026-11-20T19:05:02Z" }],
    later: [{ commit: commit(releases[1]), release: `web/${releases[1]}.deb` }, { commit: "0".repeat(40), release: null }],
  };
  const directory = join(stage.bucket.replace("file://", ""), "channel-state", "web");
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "prod.json"), JSON.stringify(state));
  return [policy, ...releases];
};

/** What the page reports that a browser would only tell its developer: errors of scripts, and of the policy for content. */
export const complaints = (page: Page): string[] => {
  const found: string[] = [];
  page.on("pageerror", (error) => found.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (4|5)\d\d|ERR_CONNECTION|ERR_INCOMPLETE/.test(message.text())) found.push(message.text());
  });
  page.on("dialog", (dialog) => {
    found.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  return found;
};

export const test = base.extend<{ stage: Stage }>({
  stage: async ({ context }, use) => {
    const stage = new Stage(context);
    try {
      await use(stage);
    } finally {
      await stage.strike();
    }
  },
});

export { expect };
