-- What Envoy's settings (envoy.yaml) cannot express: which of a client's headers TorchServe sees, where an answer comes
-- from, and when to retry. A single thread runs this, so state kept between requests covers all of them.

-- All headers that the handler, and Envoy for forwarding, need. TorchServe reads at most 8 KiB of headers.
local PASSED = {
  [":method"] = 10, [":path"] = 1000, [":scheme"] = 10, [":authority"] = 1000, ["content-length"] = 20,
  ["transfer-encoding"] = 20, ["content-type"] = 65536, ["x-request-id"] = 64, ["traceparent"] = 55,
  ["inference-header-content-length"] = 20,
}
local LONGEST_TYPE = 512

-- Whether a URL asks for a number of classes, under any name (vision/protocol/top_k.py recognises the same ones).
local function asks_for_classes(query)
  local read = query:gsub("%%(%x%x)", function(digits)
    local letter = string.char(tonumber(digits, 16))
    return letter:find("%a") and letter or "."
  end)
  local names = ("&" .. read:lower() .. "&"):gsub("=[^&]*", "")
  for _, name in ipairs({ "%f[%a]top[^%w&]*[kn]%f[%A]", "%f[%a]k[^%w&]*top%f[%A]", "&k&" }) do
    if names:find(name) then
      return true
    end
  end
  return false
end

-- Returns what to pass to the handler, if anything: digits, or "-" for anything else; and whether it appears just once and
-- correctly spelled. The rest of the query string is ignored.
local function top_k_of(path)
  local query = path:match("%?(.*)")
  if not query or not asks_for_classes(query) then
    return nil, true
  end
  local before, value, after = ("&" .. query .. "&"):match("^(.-)&top_k=([^&]*)(&.*)$")
  if not value or asks_for_classes(before .. after) then
    return nil, false
  end
  return value:match("^%d+$") and value:sub(1, 11) or "-", true
end

-- Whether a URL has an explanation's class or form, which nothing reads there.
local function asks_what_to_explain(path)
  local query = "&" .. (path:match("%?(.*)") or "")
  return query:find("&class=", 1, true) or query:find("&form=", 1, true)
end

-- For predictions and for explanations: the time between the model's answers in ms, averaged over about the latest 32;
-- when the latest answer came; and since when a request has been waiting after it.
local paces = { predict = { apart = 0 }, explain = { apart = 0 } }

function envoy_on_request(handle)
  local call = handle:filterContext()
  if call:get("bodyless") then
    -- The status server does not read it, and would take it for the next request.
    local body = handle:body()
    if body and body:length() > 0 then
      handle:respond({ [":status"] = "400" }, "body: a GET may not have one")
    end
    return
  end
  if not call:get("route") then
    return
  end
  local headers = handle:headers()
  local encoding = headers:get("content-encoding")
  if encoding and encoding:lower() ~= "identity" then
    handle:respond({ [":status"] = "415" }, "content-encoding: expected one of gzip, br and zstd")
    return
  end
  if (headers:get("content-length") or ""):find("^0%d") then -- Envoy would forward it unchanged
    handle:respond({ [":status"] = "400" }, "content-length: expected a number without leading zeros")
    return
  end
  if call:get("protocol") == "grpc" then -- its messages contain no JSON
    headers:remove("inference-header-content-length")
  end
  local json_length = headers:get("inference-header-content-length")
  if json_length and not (json_length:find("^%d+$") and #json_length <= 20) then
    handle:respond({ [":status"] = "400" }, "inference-header-content-length: expected a number of bytes")
    return
  end
  local top_k, said_well = top_k_of(headers:get(":path"))
  if not said_well then
    handle:respond({ [":status"] = "400" }, "top_k: expected once in the URL, as ?top_k=5")
    return
  end
  if call:get("verb") == "explain" and asks_what_to_explain(headers:get(":path")) then
    handle:respond({ [":status"] = "400" }, "class and form: belong in the parameters of the JSON body")
    return
  end
  local removed = {}
  for name, value in pairs(headers) do
    if #value > (PASSED[name] or -1) then
      removed[#removed + 1] = name
    end
  end
  for _, name in ipairs(removed) do
    headers:remove(name)
  end
  -- TorchServe must not decode forms: it is told JSON, an image or bytes, and the handler gets the client's own type. (The
  -- handlers of archives from before the front door only know TorchServe's.)
  local kind = headers:get("content-type") or ""
  headers:replace("x-client-content-type", kind:sub(1, LONGEST_TYPE))
  headers:replace("x-client-protocol", call:get("protocol"))
  if top_k then
    headers:replace("x-client-top-k", top_k)
  end
  local media_type = kind:lower():match("^%s*([a-z]+/[a-z0-9.+-]+)") or ""
  local plain = media_type == "application/json" or media_type:find("^image/") and #media_type < 40
  headers:replace("content-type", plain and media_type or "application/octet-stream")
  headers:replace(":path", call:get("route"))
  headers:replace(":authority", "torchserve")
  local pace = paces[call:get("verb")]
  pace.since = pace.since or handle:timestamp()
end

local function note_answer(pace, now, took)
  if pace.latest then
    -- Idle time does not count as slowness.
    pace.apart = pace.apart + (math.min(now - pace.latest, took) - pace.apart) / 32
  end
  pace.latest, pace.since = now, nil
end

-- In how many seconds everything that is waiting now will be answered.
local function seconds_to_wait(pace, places, now)
  local silent = pace.since and (now - pace.since) / 32 or 0
  return math.min(60, math.max(1, math.ceil(places * math.max(pace.apart, silent) / 1000)))
end

-- For metrics and spans (envoy.yaml): the number of requests in the batch, and the time of each stage, in µs.
local STAGES = "^batch=(%d+) queue=([%d.]+) decode=([%d.]+) forward=([%d.]+)$"
local FILTER = "envoy.filters.http.lua"

-- Returns the total, in ms.
local function note_stages(handle, stages)
  local batch, queue, decode, forward = stages:match(STAGES)
  if not batch then
    return math.huge
  end
  local noted = handle:streamInfo():dynamicMetadata()
  noted:set(FILTER, "batch", tonumber(batch))
  noted:set(FILTER, "queue", math.floor(tonumber(queue) * 1000))
  noted:set(FILTER, "decode", math.floor(tonumber(decode) * 1000))
  noted:set(FILTER, "forward", math.floor(tonumber(forward) * 1000))
  return queue + decode + forward
end

-- TorchServe's own errors do not have our format. Its status → ours, and our message.
local BUSY = { "503", "server: the model is busy or not loaded yet: try again after Retry-After seconds" }
local LOST = { "503", "server: the batch with this request was lost: try again after Retry-After seconds" }
local DEFECT = { "500", "server: internal error, see the server's log" }
local OWN = { ["404"] = BUSY, ["408"] = LOST, ["500"] = LOST, ["503"] = BUSY, ["507"] = LOST }

-- For gRPC methods whose message states what REST states in the status.
local function answer_instead(handle, message)
  handle:body(true):setBytes(message)
  local headers = handle:headers()
  headers:replace(":status", "200")
  headers:replace("content-length", tostring(#message))
end

function envoy_on_response(handle)
  local call = handle:filterContext()
  local instead, places = call:get("instead_of_503"), call:get("places")
  local in_grpc = call:get("protocol") == "grpc" -- `call` is gone after waiting for the body
  if instead and handle:headers():get(":status") == "503" then
    answer_instead(handle, instead)
  end
  if not places then
    return
  end
  local pace = paces[call:get("verb")]
  local headers, now = handle:headers(), handle:timestamp()
  local status = headers:get(":status")
  local stages, upstream = headers:get("x-stages"), headers:get("x-upstream")
  headers:remove("x-stages")
  headers:remove("x-upstream")
  if stages then
    note_answer(pace, now, note_stages(handle, stages))
  elseif upstream and tonumber(status) >= 400 then
    -- The handler of an older archive sends no stages, but its errors have our format.
    local body = handle:body(true)
    if body:getBytes(0, math.min(body:length(), 8)) ~= '{"error"' then
      local own = OWN[status] or DEFECT
      status = own[1]
      local said = '{"error": "' .. own[2] .. '"}'
      body:setBytes(said)
      headers = handle:headers() -- waiting for the body has invalidated the first
      headers:replace(":status", status)
      headers:replace("content-type", "application/json")
      headers:replace("content-length", tostring(#said))
    end
  end
  if status == "503" then
    handle:headers():replace("retry-after", tostring(seconds_to_wait(pace, places, now)))
  end
  if in_grpc and tonumber(status) >= 400 then
    handle:headers():replace("x-door-status", status) -- for grpc.lua
  end
end
