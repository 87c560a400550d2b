-- What Envoy's settings cannot say (envoy.yaml): which of a client's headers TorchServe gets to see, whose an answer is,
-- and when to ask again. One thread runs this, so what is kept between requests is true of all of them.

-- All that the handler needs, and Envoy to pass it on. TorchServe reads heads of 8 KiB at most.
local PASSED = {
  [":method"] = 10, [":path"] = 1000, [":scheme"] = 10, [":authority"] = 1000, ["content-length"] = 20,
  ["transfer-encoding"] = 20, ["content-type"] = 65536, ["x-request-id"] = 64, ["traceparent"] = 55,
}
local LONGEST_TYPE = 512

function envoy_on_request(handle)
  local predict = handle:filterContext()
  if predict:get("bodyless") then
    -- Who answers does not read it, and would take it for the next request.
    local body = handle:body()
    if body and body:length() > 0 then
      handle:respond({ [":status"] = "400" }, "body: a GET has none here")
    end
    return
  end
  if not predict:get("route") then
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
  local removed = {}
  for name, value in pairs(headers) do
    if #value > (PASSED[name] or -1) then
      removed[#removed + 1] = name
    end
  end
  for _, name in ipairs(removed) do
    headers:remove(name)
  end
  -- TorchServe decodes no body: it hears of bytes, and the handler of what the client calls them.
  headers:replace("x-client-content-type", (headers:get("content-type") or ""):sub(1, LONGEST_TYPE))
  headers:replace("content-type", "application/octet-stream")
  headers:replace(":path", predict:get("route"))
  headers:replace(":authority", "torchserve")
end

-- The time from one answer of the model to the next, in ms: mostly that of the latest 32.
local pace = 0
local latest

local function note_answer(now)
  if latest then
    pace = pace + (now - latest - pace) / 32
  end
  latest = now
end

-- In how many seconds all that waits now will be answered.
local function seconds_to_wait(places, now)
  local slowest = math.max(pace, latest and (now - latest) / 32 or 0)
  return math.min(60, math.max(1, math.ceil(places * slowest / 1000)))
end

-- For metrics and spans (envoy.yaml): how many requests were in the batch, and what each stage took, in µs.
local STAGES = "^batch=(%d+) queue=([%d.]+) decode=([%d.]+) forward=([%d.]+)$"
local FILTER = "envoy.filters.http.lua"

local function note_stages(handle, stages)
  local batch, queue, decode, forward = stages:match(STAGES)
  local noted = handle:streamInfo():dynamicMetadata()
  if batch then
    noted:set(FILTER, "batch", tonumber(batch))
    noted:set(FILTER, "queue", math.floor(tonumber(queue) * 1000))
    noted:set(FILTER, "decode", math.floor(tonumber(decode) * 1000))
    noted:set(FILTER, "forward", math.floor(tonumber(forward) * 1000))
  end
end

-- What TorchServe itself says of a request (its queue is full, a worker was replaced, …) is not in our words.
local OWN = {
  ["503"] = "server: the model is busy or being replaced: ask again after the seconds in Retry-After",
  ["other"] = "server: internal error, see the server's log",
}

function envoy_on_response(handle)
  local predict = handle:filterContext()
  local places = predict:get("places")
  if not places then
    return
  end
  local headers, now = handle:headers(), handle:timestamp()
  local status = headers:get(":status")
  local stages = headers:get("x-stages")
  if stages then
    note_answer(now)
    note_stages(handle, stages)
    headers:remove("x-stages")
  elseif headers:get("x-upstream") then
    status = (status == "503" or status == "507") and "503" or "500"
    local body = '{"error": "' .. (OWN[status] or OWN["other"]) .. '"}'
    headers:replace(":status", status)
    headers:replace("content-type", "application/json")
    handle:body(true):setBytes(body)
    headers = handle:headers() -- the wait for the body has ended the first
    headers:replace("content-length", tostring(#body))
  end
  headers:remove("x-upstream")
  if status == "503" then
    headers:replace("retry-after", tostring(seconds_to_wait(places, now)))
  end
end
