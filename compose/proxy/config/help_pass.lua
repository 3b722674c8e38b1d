-- Who may come to a server at the helpers' name: whoever has a pass for its owner, which the hub
-- signed with the door's secret (src/afportal/live_help/door_pass.py makes it).
--
--   UNTIL_S:HUB:INSTANCE:OWNER:PERSON:MAC
--
-- It is the door's part alone. The server asks the hub whether this person may, again and again.

local SECRET_FILE = "/keys/door/proxy_secret"
local PURPOSE = "afportal live help, door pass, 1"
local BLOCK = 64
local FORM = "^(%d+):([a-z][a-z0-9]*):([a-z][a-z0-9]*%-%d+):([a-z_][a-z0-9_.%-]*):([a-z_][a-z0-9_.%-]*):(%x+)$"

local key = nil

local function bytes(hex)
  return (hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

-- HMAC-SHA1 in hexadecimal (RFC 2104).
local function hmac(r, secret, text)
  if #secret > BLOCK then
    secret = bytes(r:sha1(secret))
  end
  secret = secret .. string.rep("\0", BLOCK - #secret)
  local inner, outer = {}, {}
  for place = 1, BLOCK do
    inner[place] = string.char(secret:byte(place) ~ 0x36)
    outer[place] = string.char(secret:byte(place) ~ 0x5c)
  end
  return r:sha1(table.concat(outer) .. bytes(r:sha1(table.concat(inner) .. text)))
end

local function pass_key(r)
  if key == nil then
    local file = io.open(SECRET_FILE, "r")
    if file == nil then
      r:err("no pass can be checked: " .. SECRET_FILE .. " cannot be read")
      return nil
    end
    local secret = file:read("a"):gsub("%s+$", "")
    file:close()
    if #secret < 32 then
      return nil
    end
    key = hmac(r, secret, PURPOSE)
  end
  return key
end

-- Takes as long for a nearly right one as for any other.
local function same(one, other)
  if #one ~= #other then
    return false
  end
  local differs = 0
  for place = 1, #one do
    differs = differs | (one:byte(place) ~ other:byte(place))
  end
  return differs == 0
end

-- The one pass that came; nil for none, and for two, of which the route may be by the other.
local function the_pass(r)
  local found = nil
  for cookie in (r.headers_in["Cookie"] or ""):gmatch("[^;]+") do
    local value = cookie:match("^%s*__Host%-af_help=(.-)%s*$")
    if value then
      if found then
        return nil
      end
      found = value
    end
  end
  return found
end

function has_pass(r, hub)
  local value = the_pass(r)
  if not value or #value > 256 then
    return apache2.AUTHZ_DENIED
  end
  local until_s, of_hub, _, owner, _, mac = value:match(FORM)
  if not until_s or of_hub ~= hub or os.time() >= tonumber(until_s) then
    return apache2.AUTHZ_DENIED
  end
  if r.uri:match("^/" .. hub .. "/user/([^/]+)/") ~= owner then
    return apache2.AUTHZ_DENIED
  end
  local with = pass_key(r)
  if not with or not same(hmac(r, with, value:match("^(.*):")), mac) then
    return apache2.AUTHZ_DENIED
  end
  return apache2.AUTHZ_GRANTED
end
