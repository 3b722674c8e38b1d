// What configurable-http-proxy answers when the hub itself is away. While it is there the
// hub draws every error page (--error-target); the proxy's own words for the rest are a line
// of plain text, and its --error-path excludes --error-target.
"use strict";
const fs = require("fs");
const { ConfigurableProxy } = require("/opt/proxy/node_modules/configurable-http-proxy/lib/configproxy.js");

const { AF_HUB, AF_INSTANCE } = process.env;
const page = fs
  .readFileSync("/opt/proxy/503.html", "utf8")
  .replaceAll("{{hub}}", AF_HUB)
  .replaceAll("{{instance}}", AF_INSTANCE);
const words = JSON.stringify({
  status: 503,
  message: `hub instance ${AF_INSTANCE} does not answer; running servers are kept. Try again in a moment.`,
});
const plain = ConfigurableProxy.prototype._handleProxyErrorDefault;

ConfigurableProxy.prototype._handleProxyErrorDefault = function (code, kind, req, res) {
  if (code !== 503 || kind !== "web" || !res.writeHead || res.headersSent) {
    return plain.call(this, code, kind, req, res);
  }
  const html = (req.headers.accept || "").includes("text/html");
  res.writeHead(503, {
    "Content-Type": html ? "text/html; charset=utf-8" : "application/json",
    "Cache-Control": "no-store",
    "Retry-After": "5",
    "X-AF-Away": AF_INSTANCE,
  });
  res.end(html ? page : words);
};
