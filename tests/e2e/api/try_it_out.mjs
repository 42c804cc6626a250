// What Swagger UI sends when somebody tries an operation out, who has logged in there before. Takes the gateway's URL, an access
// token, a user and a password, and on standard input a list of {operation, parameters: {name: value}, body}; prints a list of
// {method, url, authorization, body}.
import { chromium } from "playwright-core";
import { readFileSync } from "node:fs";

const [, , gateway, token, user, password] = process.argv;
const tried = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(`${gateway}/docs/`);
  await page.locator(".btn.authorize").click();
  const login = page.locator(".auth-container", { hasText: "Flow: password" });
  await login.locator("#oauth_username").fill(user);
  await login.locator("#oauth_password").fill(password);
  await login.getByRole("button", { name: "Apply given OAuth2 credentials" }).click();
  // It is there once the login has come through.
  await login.getByRole("button", { name: "Remove authorization" }).click();
  await page.getByLabel("auth-bearer-value").fill(token);
  const scheme = page.locator(".auth-container", { has: page.getByLabel("auth-bearer-value") });
  await scheme.getByRole("button", { name: "Apply credentials" }).click();
  await page.locator(".btn-done").first().click();

  const sent = [];
  for (const { operation, parameters = {}, body } of tried) {
    const block = page.locator(`.opblock[id$="-${operation}"]`);
    await block.locator(".opblock-summary-control").click();
    await block.locator(".try-out__btn").click();
    for (const [name, value] of Object.entries(parameters)) {
      await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
    }
    if (body !== undefined) {
      await block.locator("textarea.body-param__text").fill(JSON.stringify(body));
    }
    const [request] = await Promise.all([
      page.waitForRequest((request) => request.resourceType() === "fetch" || request.resourceType() === "xhr"),
      block.locator(".execute").click(),
    ]);
    sent.push({
      method: request.method(),
      url: request.url(),
      authorization: (await request.allHeaders()).authorization ?? null,
      body: request.postDataJSON(),
    });
    await block.locator(".opblock-summary-control").click();
  }
  console.log(JSON.stringify(sent));
} finally {
  await browser.close();
}
