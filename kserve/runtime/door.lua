-- What Envoy's settings cannot say (envoy.yaml): which of a client's headers TorchServe gets to see, whose an answer is,
-- and when to ask again. One thread runs this, so what is kept between requests is true of all of them.

-- All that the handler needs, and Envoy to pass it on. TorchServe reads heads of 8 KiB at most.
local PASSED = {
  [":method"] = 10, [":path"] = 1000, [":scheme"] = 10, [":authority"] = 1000, ["content-length"] = 20,
  ["transfer-encoding"] = 20, ["content-type"] = 65536, ["x-request-id"] = 64, ["traceparent"] = 55,
  ["inference-header-content-length"] = 20,
}
local LONGEST_TYPE = 512

-- Whether an address asks for a number of classes, by whatever name (vision/protocol/top_k.py knows the same).
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

-- Returns what the handler gets to see of it, if anything: digits, or a sign for what are none; and whether it is said
-- once, as it should be. Whatever else an address asks means nothing here.
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

-- Whether an address asks for a class or a form, as an explanation has them: nobody looks for them there.
local function asks_what_to_explain(path)
  local query = "&" .. (path:match("%?(.*)") or "")
  return query:find("&class=", 1, true) or query:find("&form=", 1, true)
end

-- Of predictions and of explanations: the time from one answer of the model to the next, in ms, mostly that of the
-- latest 32; when the latest came; and since when there are requests after it.
local paces = { predict = { apart = 0 }, explain = { apart = 0 } }

function envoy_on_request(handle)
  local call = handle:filterContext()
  if call:get("bodyless") then
    -- Who answers does not read it, and would take it for the next request.
    local body = handle:body()
    if body and body:length() > 0 then
      handle:respond({ [":status"] = "400" }, "body: a GET has none here")
    end
    return
  end
  if not call:get("route") then
    return
  end
  local headers = handle:headers()
  local encoding = headers:get("content-encoding")
  if encoding and encoding:lower() ~= "identity" then
    handle:respond({ [":status"] = "415" }, "content-encoding: gzip, br and zstd are taken, one of them")
    return
  end
  if (headers:get("content-length") or ""):find("^0%d") then -- Envoy would pass it on as it is
    handle:respond({ [":status"] = "400" }, "content-length: a number without leading zeros is expected")
    return
  end
  if call:get("protocol") == "grpc" then -- whose messages have no JSON
    headers:remove("inference-header-content-length")
  end
  local json_length = headers:get("inference-header-content-length")
  if json_length and not (json_length:find("^%d+$") and #json_length <= 20) then
    handle:respond({ [":status"] = "400" }, "inference-header-content-length: a number of bytes is expected")
    return
  end
  local top_k, said_well = top_k_of(headers:get(":path"))
  if not said_well then
    handle:respond({ [":status"] = "400" }, "top_k: expected once in the address, as ?top_k=5")
    return
  end
  if call:get("verb") == "explain" and asks_what_to_explain(headers:get(":path")) then
    handle:respond({ [":status"] = "400" }, "class and form: belong in parameters, in the JSON body")
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
  -- TorchServe decodes no form: it hears of JSON, of an image or of bytes, and the handler of what the client says. (That
  -- of an archive from before the front door knows the former alone.)
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
    -- While nobody asked, it was not slow.
    pace.apart = pace.apart + (math.min(now - pace.latest, took) - pace.apart) / 32
  end
  pace.latest, pace.since = now, nil
end

-- In how many seconds all that waits now will be answered.
local function seconds_to_wait(pace, places, now)
  local silent = pace.since and (now - pace.since) / 32 or 0
  return math.min(60, math.max(1, math.ceil(places * math.max(pace.apart, silent) / 1000)))
end

-- For metrics and spans (envoy.yaml): how many requests were in the batch, and what each stage took, in µs.
local STAGES = "^batch=(%d+) queue=([%d.]+) decode=([%d.]+) forward=([%d.]+)$"
local FILTER = "envoy.filters.http.lua"

-- Returns how long it took, in ms.
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

-- What TorchServe itself says of a request is not in our words. Its status → ours, and what that means.
local BUSY = { "503", "server: the model is busy or not there yet: ask again after the seconds in Retry-After" }
local LOST = { "503", "server: the batch with this request was lost: ask again after the seconds in Retry-After" }
local DEFECT = { "500", "server: internal error, see the server's log" }
local OWN = { ["404"] = BUSY, ["408"] = LOST, ["500"] = LOST, ["503"] = BUSY, ["507"] = LOST }

-- For a method of gRPC that says in its message what a status says in REST.
local function answer_instead(handle, message)
  handle:body(true):setBytes(message)
  local headers = handle:headers()
  headers:replace(":status", "200")
  headers:replace("content-length", tostring(#message))
end

function envoy_on_response(handle)
  local call = handle:filterContext()
  local instead, places = call:get("instead_of_503"), call:get("places")
  local in_grpc = call:get("protocol") == "grpc" -- nothing of `call` is there any more after a wait for the body
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
    -- The handler of an older archive says no stages, but it has our shape.
    local body = handle:body(true)
    if body:getBytes(0, math.min(body:length(), 8)) ~= '{"error"' then
      local own = OWN[status] or DEFECT
      status = own[1]
      local said = '{"error": "' .. own[2] .. '"}'
      body:setBytes(said)
      headers = handle:headers() -- the wait for the body has ended the first
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
