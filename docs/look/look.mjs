// Looks at every page of the built site in a real browser, wide and narrow, light and dark: broken pictures,
// what is wider than the page, and axe-core's rules of WCAG 2 AA (contrast among them). Then it searches for
// "alpha" and tabs through a page. `make docs-look`; SHOTS=DIR keeps screenshots, PAGES="index.html" some pages.
import { readFileSync, readdirSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import puppeteer from "puppeteer-core";

const site = process.argv[2];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
let count = 0;
const report = (fault) => { count += 1; console.log(fault); };

const server = createServer((request, response) => {
  try {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://site").pathname));
    const body = readFileSync(join(site, path));
    response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const home = `http://127.0.0.1:${server.address().port}/`;

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});

async function open(name) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1440, height: 900 });
  page.on("response", (response) => {
    if (response.status() >= 400 && response.url().startsWith(home)) {
      report(`${name}: ${response.url().slice(home.length)} is missing`);
    }
  });
  await page.goto(home + name);
  await page.addStyleTag({ content: "* { transition: none !important; }" });
  return page;
}

async function findFaults(page) {
  const seen = await page.evaluate(async () => {
    const found = [];
    const edge = document.documentElement.clientWidth + 1;
    if (document.documentElement.scrollWidth > edge) found.push("the page is wider than the window");
    for (const part of document.querySelectorAll(":is(article, .prev-next-area) :is(table, img, pre, dt, .classifier, p, li, svg)")) {
      const box = part.closest(".pst-scrollable-table-container, .highlight") ?? part;
      if (box.getBoundingClientRect().right > edge) found.push(`too wide: ${part.textContent.slice(0, 60)}`);
    }
    for (const picture of document.images) {
      picture.loading = "eager";
      await picture.decode().catch(() => found.push(`broken picture: ${picture.src}`));
    }
    return found;
  });
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa"] });
    return violations.map(({ id, nodes }) => `${id} (${nodes.length}): ${nodes[0].html.slice(0, 120)}`);
  });
  return [...seen, ...violations];
}

const chosen = process.env.PAGES?.split(" ");
const names = chosen ?? readdirSync(site, { recursive: true }).filter((name) => name.endsWith(".html") && !name.startsWith("_"));
if (process.env.SHOTS) mkdirSync(process.env.SHOTS, { recursive: true });
for (const name of names.sort()) {
  const page = await open(name);
  for (const width of [1440, 390]) {
    await page.setViewport({ width, height: 900 });
    await new Promise((done) => setTimeout(done, 500)); // the theme looks anew at what can be scrolled
    for (const theme of ["light", "dark"]) {
      await page.evaluate((mode) => { document.documentElement.dataset.theme = mode; }, theme);
      for (const fault of await findFaults(page)) report(`${name}, ${width} pixels, ${theme}: ${fault}`);
      if (process.env.SHOTS) {
        const path = join(process.env.SHOTS, `${name.replace(/\W/g, "_")}-${width}-${theme}.png`);
        await page.screenshot({ path, fullPage: true });
      }
    }
  }
  await page.close();
}

const search = await open("search.html?q=alpha");
await search.waitForSelector("#search-results li a", { timeout: 30000 }).catch(() => report("search finds no alpha"));

const start = await open("start.html");
for (let press = 0; press < 30; press += 1) {
  await start.keyboard.press("Tab");
  const hidden = await start.evaluate(() => {
    const { outlineStyle, boxShadow } = getComputedStyle(document.activeElement);
    return outlineStyle === "none" && boxShadow === "none" ? document.activeElement.outerHTML.slice(0, 120) : null;
  });
  if (hidden) report(`no visible focus: ${hidden}`);
}

await browser.close();
server.close();
console.log(`${names.length} pages looked at, wide and narrow, light and dark; faults: ${count}`);
process.exit(count ? 1 : 0);
