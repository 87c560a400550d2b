-- gRPC before Envoy's transcoder, which makes calls of REST of it (envoy.yaml): a message is looked at before it costs
-- anything, and what an answer's status is in HTTP becomes gRPC's.

-- https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
local CODES = {
  ["400"] = 3, -- INVALID_ARGUMENT
  ["401"] = 16, -- UNAUTHENTICATED
  ["403"] = 7, -- PERMISSION_DENIED
  ["404"] = 5, -- NOT_FOUND
  ["405"] = 12, -- UNIMPLEMENTED
  ["408"] = 4, -- DEADLINE_EXCEEDED
  ["413"] = 8, -- RESOURCE_EXHAUSTED, as each bound on a size or a number
  ["415"] = 12,
  ["429"] = 8,
  ["431"] = 8,
  ["501"] = 12,
  ["502"] = 14, -- UNAVAILABLE
  ["503"] = 14,
  ["504"] = 4,
}
local INVALID_ARGUMENT, INTERNAL = 3, 13

-- What of a message is looked into, by the numbers of its fields (inference.proto): a name here, and each message within.
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
-- Bytes become base64. Whatever else is in a message may become six times as long in JSON, and is read number by number.
local MOST_BESIDE, MOST_FIELDS = 512 * 1024, 10000

-- What it costs to make JSON of a message, and to read it, no other request gets of the door's one thread: 15 ns for a byte.
-- So those that are large may have half of it, and two of the largest may come at once.
local LARGE, MOST_AT_ONCE, A_SECOND = 512 * 1024, 24 * 1024 * 1024, 32 * 1024 * 1024
local room, counted_at = MOST_AT_ONCE, 0

local NO_MESSAGE = { "400", "message: not one of this method" }
local TOO_MUCH = { "413", "message: more than 512 KiB that are not bytes: send tensors in raw_input_contents" }
local NO_ROOM = { "503", "server: too many large messages come by gRPC: ask again, or send them by REST" }
local TOO_MANY = { "413", "message: more than 10000 fields" }

-- Returns the number that begins there, and where what follows does; nil where there is none. (A number above 2^53 is not
-- exact; no length is one.)
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

-- Looks at the fields from one place to another. https://protobuf.dev/programming-guides/encoding/
-- fields: as in MESSAGES. found: what there is. Returns nothing, or what is wrong.
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
      return NO_MESSAGE -- which the transcoder would take for the end
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
  -- Of a map. Where one is missing, Envoy's transcoder ends the process (1.40).
  if fields.is_entry and not (keys == 1 and values == 1) then
    return NO_MESSAGE
  end
end

-- Whether there is room for a message of this size, which then takes it. now: in ms.
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

-- What is wrong with the whole body of a call: a status of HTTP and a sentence; nothing where all is well. It is one
-- message: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
local function wrong_with(body, call)
  if not body or body:length() < 5 then
    return { "400", "message: none came" }
  end
  local compressed, a, b, c, d = body:getBytes(0, 5):byte(1, 5)
  if compressed ~= 0 then
    return { "415", "grpc-encoding: messages are taken as they are" }
  end
  if ((a * 256 + b) * 256 + c) * 256 + d ~= body:length() - 5 then
    return { "400", "message: one is expected, as long as it says" }
  end
  local fields, found = MESSAGES[call.method], { fields = 0, beside = 0 }
  local wrong = look(body, 5, body:length(), fields, found)
  if wrong or fields[1] ~= "model" then
    return wrong
  end
  if (found.model or "") == "" then
    return { "400", "model: which one is meant?" }
  end
  if found.model ~= call.model then
    return { "404", "model: there is " .. call.model .. " here, and none of this name" }
  end
  if (found.version or "") ~= "" and found.version ~= call.version then
    return { "404", call.another_version }
  end
end

function envoy_on_request(handle)
  local context, call = handle:filterContext(), {}
  for _, name in ipairs({ "method", "model", "version", "another_version" }) do
    call[name] = context:get(name) -- nothing of a handle is there any more when a body has come
  end
  if not call.method then
    return
  end
  local wrong
  if handle:streamInfo():protocol() ~= "HTTP/2" then
    wrong = { "400", "protocol: gRPC is HTTP/2" }
  elseif handle:headers():get("content-encoding") then
    wrong = { "415", "content-encoding: gRPC has none" }
  else
    local body = handle:body()
    if has_room(body and body:length() or 0, handle:timestamp()) then
      wrong = wrong_with(body, call)
    else
      wrong = NO_ROOM
    end
    if not wrong and handle:trailers() then
      wrong = { "400", "trailers: a request has none" }
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

-- https://www.rfc-editor.org/rfc/rfc3629#section-3, for what \u of JSON names; half of a pair is none.
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

-- The sentence of {"error": "place: what is wrong"}; what has another shape is none of ours, and is not repeated.
-- Both as gRPC has messages: in percents, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
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
  if headers:get("grpc-status") then -- Envoy's own answer, which is headers alone, and has its sentence (envoy.yaml)
    headers:replace("grpc-status", code_of(status))
    return
  end
  local trailers = handle:trailers()
  if trailers then
    trailers:replace("grpc-status", code_of(status))
    trailers:replace("grpc-message", sentence_of(trailers:get("grpc-message")))
  end
end
