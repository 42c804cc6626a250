// The page of docs/examples in Chromium, as a person uses it: node upload_page.mjs <page> <gateway> <user> <password> <file>.
// Says what the page shows in the end, as JSON.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [page, gateway, user, password, file] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  const failed = [];
  tab.on("pageerror", (error) => failed.push(String(error)));
  // Served where the API is, as the page expects of whoever hosts it.
  const body = readFileSync(page, "utf8");
  await tab.route(`${gateway}/cargar`, (route) => route.fulfill({ contentType: "text/html; charset=utf-8", body }));
  await tab.goto(`${gateway}/cargar`);
  await tab.fill('#login [name="username"]', user);
  await tab.fill('#login [name="password"]', password);
  await tab.click("#login button");
  await tab.waitForSelector("#upload:not([hidden])");
  await tab.fill('#upload [name="proveedor"]', "PROV-PAGINA");
  await tab.setInputFiles('#upload [name="file"]', file);
  await tab.click("#upload button");
  await tab.waitForFunction(() => document.getElementById("message").textContent.includes("filas:"), null, { timeout: 60_000 });
  const shown = await tab.evaluate(() => ({
    message: document.getElementById("message").textContent,
    errors: [...document.querySelectorAll("#errors tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
  }));
  // Whoever is logged in stays so over a reload.
  await tab.reload();
  await tab.waitForSelector("#upload:not([hidden])");
  console.log(JSON.stringify({ ...shown, failed }));
} finally {
  await browser.close();
}
