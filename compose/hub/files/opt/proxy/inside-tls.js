// TLS on configurable-http-proxy's three sides, where its own options end.
"use strict";
const fs = require("fs");
const https = require("https");
const net = require("net");
const { ConfigurableProxy } = require("/opt/proxy/node_modules/configurable-http-proxy/lib/configproxy.js");

// Whose certificate is expected is the host that is called. Node takes the name in the Host
// header instead, which is the front door's.
class InsideAgent extends https.Agent {
  createConnection(options, ...rest) {
    const servername = net.isIP(options.host) ? "" : options.host;
    return super.createConnection({ ...options, servername }, ...rest);
  }
}
// A connection that waits is closed after this time, which no hub's restart falls short of: one to a
// hub that was killed looks open until it is used, and the next request would end in a 503.
const WAITS_MS = 3000;
const agent = new InsideAgent({ keepAlive: true, timeout: WAITS_MS });
const stock = ConfigurableProxy.prototype.proxyOptsForTarget;
ConfigurableProxy.prototype.proxyOptsForTarget = function (target) {
  const options = stock.call(this, target);
  return options.secure ? { ...options, agent } : options;
};

// Apache checks a certificate by the Host header that it sends, so it sends this proxy's own
// name and says beside it, set anew for each request, which one the browser asked for.
for (const name of ["handleProxyWeb", "handleProxyWs"]) {
  const handle = ConfigurableProxy.prototype[name];
  ConfigurableProxy.prototype[name] = function (req, ...rest) {
    req.headers.host = req.headers["x-forwarded-host"] || req.headers.host;
    return handle.call(this, req, ...rest);
  };
}

// A certificate that `keys` has renewed is taken without a break.
const KEY = "/keys/cell/tls.key";
const CERTIFICATE = "/keys/cell/tls.pem";
const LOOK_EVERY_MS = 5000;
const servers = [];
const create = https.createServer;
https.createServer = function (options, ...rest) {
  const server = create.call(this, options, ...rest);
  servers.push({ server, options });
  return server;
};
fs.watchFile(CERTIFICATE, { interval: LOOK_EVERY_MS, persistent: false }, () => {
  try {
    const pair = { key: fs.readFileSync(KEY), cert: fs.readFileSync(CERTIFICATE) };
    servers.forEach(({ server, options }) => server.setSecureContext({ ...options, ...pair }));
    console.log("the new certificate is taken");
  } catch (error) {
    console.error(`the new certificate is not taken: ${error.message}`);
  }
});
