-- Drops what only the front door may say, in every spelling: "X-Remote-User",
-- "x_remote-user", "X.Remote.User" are one name to some server or other.

local IDENTITY = {
  "^x%-remote", "^remote%-", "^x%-proxy", "^proxy", "^x%-access%-token", "^oidc", "^x%-oidc",
  "^x%-forwarded", "^forwarded$", "^x%-real%-ip", "^x%-scheme", "^x%-auth", "^auth%-user",
  "^x%-user", "^x%-email", "^x%-groups?$", "^x%-webauth", "^x%-token", "^x%-id%-token",
  "^x%-original", "^x%-rewrite", "^x%-script", "^x%-ssl", "^ssl%-", "^x%-client", "^x%-http%-method",
  "^x%-af%-",
}

local HOP = { ["close"] = true, ["keep-alive"] = true, ["upgrade"] = true }

function drop_headers(r)
  for name in pairs(r:headers_in_table()) do
    local plain = name:lower():gsub("[^a-z0-9]+", "-")
    for _, pattern in ipairs(IDENTITY) do
      if plain:find(pattern) then
        r.headers_in[name] = nil
        break
      end
    end
  end
  -- "Connection: Cookie" would have the next hop lose a header that this one looked at.
  local connection = r.headers_in["Connection"]
  if connection then
    local kept = {}
    for word in connection:lower():gmatch("[^%s,]+") do
      if HOP[word] then
        kept[#kept + 1] = word
      end
    end
    r.headers_in["Connection"] = #kept > 0 and table.concat(kept, ", ") or nil
  end
  return apache2.DECLINED
end
