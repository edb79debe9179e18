# counter: a program on libuv, whose loop wakes itself by an eventfd and whose children talk over pipes
lua5.1 - <<'L'
local uv = require("luv")

local woken = uv.new_async(function(...)
    print("async", ...)
end)
local timer = uv.new_timer()
local worker = uv.new_work(function(n)
    return n * n
end, function(square)
    print("work", square)
    woken:send("from", "the", "pool")
    timer:start(10, 0, function()
        woken:close()
        timer:close()
    end)
end)
worker:queue(12)
uv.run()

local out = uv.new_pipe(false)
local bytes = 0
uv.spawn("seq", { args = { "1", "50000" }, stdio = { nil, out, nil } }, function(code)
    print("seq ended", code)
end)
out:read_start(function(_, chunk)
    bytes = bytes + (chunk and #chunk or 0)
    if not chunk then
        out:close()
    end
end)
uv.run()
print(bytes)

local fds = uv.pipe()
print(uv.fs_write(fds.write, "through a pipe", -1), uv.fs_read(fds.read, 100, -1))
L
