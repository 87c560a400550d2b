-- Runs on gRPC calls before Envoy's transcoder turns them into REST calls (envoy.yaml). It checks a message before it costs
-- anything, and translates the HTTP status of an answer to gRPC's.

-- https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
local CODES = {
  ["400"] = 3, -- INVALID_ARGUMENT
  ["401"] = 16, -- UNAUTHENTICATED
  ["403"] = 7, -- PERMISSION_DENIED
  ["404"] = 5, -- NOT_FOUND
  ["405"] = 12, -- UNIMPLEMENTED
  ["408"] = 4, -- DEADLINE_EXCEEDED
  ["413"] = 8, -- RESOURCE_EXHAUSTED, as for every bound on a size or a number
  ["415"] = 12,
  ["429"] = 8,
  ["431"] = 8,
  ["501"] = 12,
  ["502"] = 14, -- UNAVAILABLE
  ["503"] = 14,
  ["504"] = 4,
}
local INVALID_ARGUMENT, INTERNAL = 3, 13

-- The parts of a message that are examined, by field number (inference.proto): a name, or a nested message.
local OF_A_MODEL = { "model", "version" }
local PARAMETERS = { "key", {}, is_entry = true }
local CONTENTS = { [8] = "bytes" }
local MESSAGES = {
  ServerLive = {}, ServerReady = {}, ServerMetadata = {},
  ModelReady = OF_A_MODEL, ModelMetadata = OF_A_MODEL,
  ModelInfer = {
    "model", "version", [4] = PARAMETERS, [5] = { [4] = PARAMETERS, [5] = CONTENTS }, [6] = { [2] = PARAMETERS },
    [7] = "bytes",
  },
}
-- Bytes become base64. Anything else may become six times as long in JSON, and is parsed number by number.
local MOST_BESIDE, MOST_FIELDS = 512 * 1024, 10000

-- Converting a message to JSON and reading it blocks the door's only thread: 15 ns per byte. So large messages may use half
-- of its time, and two of the largest may arrive at once.
local LARGE, MOST_AT_ONCE, A_SECOND = 512 * 1024, 24 * 1024 * 1024, 32 * 1024 * 1024
local room, counted_at = MOST_AT_ONCE, 0

local NO_MESSAGE = { "400", "message: not valid for this method" }
local TOO_MUCH = { "413", "message: more than 512 KiB outside bytes fields: send tensors in raw_input_contents" }
local NO_ROOM = { "503", "server: too many large gRPC messages: try again, or use REST" }
local TOO_MANY = { "413", "message: more than 10000 fields" }

-- Returns the number that begins there and the position after it; nil if there is none. (Numbers above 2^53 are inexact,
-- but no length is that large.)
local function varint(text, from)
  local value, factor = 0, 1
  for at = from, math.min(#text, from + 9) do
    local byte = text:byte(at)
    value = value + byte % 128 * factor
    if byte < 128 then
      return value, at + 1
    end
    factor = factor * 128
  end
end

-- Checks the fields from one position to another. https://protobuf.dev/programming-guides/encoding/
-- fields: as in MESSAGES. found: collects what is there. Returns nothing, or what is wrong.
local function look(body, from, past, fields, found)
  local keys, values = 0, 0
  while from < past do
    found.fields = found.fields + 1
    if found.fields > MOST_FIELDS then
      return TOO_MANY
    end
    local head = body:getBytes(from, math.min(20, past - from))
    local tag, after = varint(head, 1)
    if not tag or tag < 8 or tag >= 2 ^ 32 or after > 6 then
      return NO_MESSAGE -- the transcoder would take it for the end
    end
    local kind, length = tag % 8, 0
    if kind == 0 then
      after = select(2, varint(head, after))
    elseif kind == 1 then
      length = 8
    elseif kind == 2 then
      length, after = varint(head, after)
    elseif kind == 5 then
      length = 4
    else
      return NO_MESSAGE
    end
    local start = after and from + after - 1
    if not start or start + length > past then
      return NO_MESSAGE
    end
    local number = math.floor(tag / 8)
    local field = kind == 2 and fields[number]
    found.beside = found.beside + start - from
    if type(field) == "table" then
      local wrong = look(body, start, start + length, field, found)
      if wrong then
        return wrong
      end
    elseif field ~= "bytes" then
      found.beside = found.beside + length
      if field then
        found[field] = body:getBytes(start, math.min(length, 1000))
      end
    end
    if found.beside > MOST_BESIDE then
      return TOO_MUCH
    end
    keys, values = keys + (kind == 2 and number == 1 and 1 or 0), values + (kind == 2 and number == 2 and 1 or 0)
    from = start + length
  end
  -- A map entry. If its key or value is missing, Envoy's transcoder crashes (1.40).
  if fields.is_entry and not (keys == 1 and values == 1) then
    return NO_MESSAGE
  end
end

-- Whether there is room for a message of this size; if so, it is reserved. now: in ms.
local function has_room(size, now)
  room, counted_at = math.min(MOST_AT_ONCE, room + (now - counted_at) * A_SECOND / 1000), now
  if size > LARGE then
    if size > room then
      return false
    end
    room = room - size
  end
  return true
end

-- What is wrong with the body of a call: an HTTP status and a sentence; nothing if all is well. A body is exactly one
-- message: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
local function wrong_with(body, call)
  if not body or body:length() < 5 then
    return { "400", "message: missing" }
  end
  local compressed, a, b, c, d = body:getBytes(0, 5):byte(1, 5)
  if compressed ~= 0 then
    return { "415", "grpc-encoding: compressed messages are not accepted" }
  end
  if ((a * 256 + b) * 256 + c) * 256 + d ~= body:length() - 5 then
    return { "400", "message: expected one, of the length that it states" }
  end
  local fields, found = MESSAGES[call.method], { fields = 0, beside = 0 }
  local wrong = look(body, 5, body:length(), fields, found)
  if wrong or fields[1] ~= "model" then
    return wrong
  end
  if (found.model or "") == "" then
    return { "400", "model: the name is missing" }
  end
  if found.model ~= call.model then
    return { "404", "model: only " .. call.model .. " is served here" }
  end
  if (found.version or "") ~= "" and found.version ~= call.version then
    return { "404", call.another_version }
  end
end

function envoy_on_request(handle)
  local context, call = handle:filterContext(), {}
  for _, name in ipairs({ "method", "model", "version", "another_version" }) do
    call[name] = context:get(name) -- the context is gone once the body has arrived
  end
  if not call.method then
    return
  end
  local wrong
  if handle:streamInfo():protocol() ~= "HTTP/2" then
    wrong = { "400", "protocol: gRPC needs HTTP/2" }
  elseif handle:headers():get("content-encoding") then
    wrong = { "415", "content-encoding: not allowed in gRPC" }
  else
    local body = handle:body()
    if has_room(body and body:length() or 0, handle:timestamp()) then
      wrong = wrong_with(body, call)
    else
      wrong = NO_ROOM
    end
    if not wrong and handle:trailers() then
      wrong = { "400", "trailers: not allowed in a request" }
    end
  end
  if wrong then
    handle:respond({ [":status"] = wrong[1] }, wrong[2])
    return
  end
  handle:headers():replace("x-client-protocol", "grpc")
end

-- --- Answers -------------------------------------------------------------------------------------------------------------

local LONGEST_SENTENCE = 1000
local ESCAPED = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- https://www.rfc-editor.org/rfc/rfc3629#section-3, for JSON's \u; a lone surrogate becomes "?".
local function utf8(code)
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64)
  elseif code >= 0xD800 and code < 0xE000 then
    return "?"
  end
  return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

-- The sentence in {"error": "place: what is wrong"}; anything else is not ours, and is not repeated.
-- Both are percent-encoded, like all gRPC messages: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
local function sentence_of(message)
  local read = (message or ""):gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end)
  local said = read:match('^%s*{%s*"error"%s*:%s*"(.*)"%s*}%s*$')
  if not said then
    return "server: internal error, see the server's log"
  end
  said = said:gsub("\\(.)(%x?%x?%x?%x?)", function(letter, digits)
    if letter == "u" and #digits == 4 then
      return utf8(tonumber(digits, 16))
    end
    return (ESCAPED[letter] or letter) .. digits
  end)
  return (said:sub(1, LONGEST_SENTENCE):gsub("[^ -$&-~]", function(byte)
    return string.format("%%%02X", byte:byte())
  end))
end

local function code_of(status)
  return tostring(CODES[status] or (status < "500" and INVALID_ARGUMENT or INTERNAL))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get("x-door-status")
  if not status then
    return
  end
  headers:remove("x-door-status")
  local noted = handle:streamInfo():dynamicMetadata() -- for metrics and the log
  noted:set("door", "status", tonumber(status))
  noted:set("door", "class", status:sub(1, 1))
  if headers:get("grpc-status") then -- Envoy's own answer: headers only, with its sentence (envoy.yaml)
    headers:replace("grpc-status", code_of(status))
    return
  end
  local trailers = handle:trailers()
  if trailers then
    trailers:replace("grpc-status", code_of(status))
    trailers:replace("grpc-message", sentence_of(trailers:get("grpc-message")))
  end
end
