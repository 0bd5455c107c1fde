"""redis-py over every command of the first release. usage: redis_py.py PORT PROTOCOL"""

import sys
import threading
import time

import redis

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])


def client(**options):
    return redis.Redis(port=PORT, protocol=PROTOCOL, socket_timeout=30, **options)


def refuses(text, call, *args, **options):
    try:
        reply = call(*args, **options)
    except redis.RedisError as error:
        assert text in str(error), (text, str(error))
        return
    raise AssertionError(f"{call} {args} was not refused: {reply!r}")


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def connections(r):
    equal(r.ping(), True)
    equal(r.echo("hello"), b"hello")
    assert r.client_id() > 0
    r.client_setname("smoke")
    equal(r.client_getname(), "smoke" if isinstance(r.client_getname(), str) else b"smoke")
    names = [row["name"] for row in r.client_list()]
    assert "smoke" in names, names
    named = client(client_name="named", db=2, health_check_interval=1)
    equal(named.ping(), True)
    assert "named" in [row["name"] for row in r.client_list()]
    named.set("k", "two")
    equal(r.get("k"), None)
    row = next(row for row in r.client_list() if row["name"] == "named")
    equal(row["db"], "2")
    equal(r.client_kill_filter(_id=row["id"]), 1)
    named.close()
    info = r.info()
    for field in ("redis_version", "connected_clients", "used_memory", "tcp_port", "db2"):
        assert field in info, field
    equal(info["tcp_port"], PORT)
    equal(info["db2"]["keys"], 1)
    refuses("unknown command", r.execute_command, "NOSUCH")
    refuses("wrong number of arguments", r.execute_command, "GET")


def server(r):
    before = r.config_get("maxmemory-samples")["maxmemory-samples"]
    r.config_set("maxmemory-samples", 7)
    equal(r.config_get("maxmemory-samples"), {"maxmemory-samples": "7"})
    r.config_set("maxmemory-samples", before)
    assert r.command_count() > 70
    table = r.command()
    equal(table["get"]["arity"], 2)
    if r.config_get("store").get("store") == "memory":
        refuses("Nothing can be saved", r.save)
    else:
        r.save()
    assert r.lastsave().timestamp() > 0
    r.set("k", "v")
    equal(r.execute_command("DEBUG SLEEP", "0"), b"OK")
    assert r.debug_object("k")


def strings(r):
    equal(r.set("s", "v"), True)
    equal(r.get("s"), b"v")
    equal(r.set("s", "w", nx=True), None)
    equal(r.set("s", "w", xx=True, get=True), b"v")
    equal(r.set("s", "x", ex=100), True)
    assert 0 < r.ttl("s") <= 100
    equal(r.set("s", "y", keepttl=True), True)
    assert 0 < r.pttl("s") <= 100_000
    equal(r.mset({"a": 1, "b": b"\x00\xff", "": "empty"}), True)
    equal(r.mget("a", "b", "", "none"), [b"1", b"\x00\xff", b"empty", None])
    equal(r.setnx("a", 2), False)
    equal(r.getdel("a"), b"1")
    equal(r.getex("s", persist=True), b"y")
    equal(r.ttl("s"), -1)
    equal(r.append("s", "z"), 2)
    equal(r.strlen("s"), 2)
    equal([r.incr("n"), r.incrby("n", 10), r.decr("n"), r.decrby("n", 5)], [1, 11, 10, 5])
    refuses("not an integer", r.incr, "s")
    big = b"x" * 3_000_000
    r.set("big", big)
    equal(r.get("big"), big)


def keys(r):
    r.mset({f"key:{i}": i for i in range(500)})
    equal(r.delete("key:0", "none"), 1)
    equal(r.unlink("key:1", "key:2"), 2)
    equal(r.exists("key:3", "key:3", "none"), 2)
    equal(r.type("key:3"), b"string")
    equal(r.expire("key:3", 100), True)
    equal(r.expire("key:3", 50, nx=True), False)
    equal(r.pexpire("key:3", 90_000), True)
    equal(r.expireat("key:3", int(time.time()) + 100), True)
    equal(r.pexpireat("key:3", int(time.time() * 1000) + 100_000), True)
    equal(r.persist("key:3"), True)
    equal(sorted(r.keys("key:4[01]")), [b"key:40", b"key:41"])
    equal(len(set(r.scan_iter(match="key:*", count=20))), 497)
    assert r.randomkey() is not None
    r.rename("key:3", "renamed")
    equal(r.get("renamed"), b"3")
    refuses("no such key", r.rename, "none", "other")
    assert r.dbsize() >= 497
    r.set("soon", 1, px=20)
    until = time.monotonic() + 60
    while r.exists("soon"):
        assert time.monotonic() < until
        time.sleep(0.01)


def collections(r):
    equal(r.rpush("l", "a", "b", "c"), 3)
    equal(r.lpush("l", "z"), 4)
    equal(r.lrange("l", 0, -1), [b"z", b"a", b"b", b"c"])
    equal([r.lpop("l"), r.rpop("l"), r.lpop("l", 5), r.llen("l")], [b"z", b"c", [b"a", b"b"], 0])
    equal(r.hset("h", mapping={"f": 1, "g": 2}), 2)
    equal([r.hget("h", "f"), r.hgetall("h"), r.hlen("h")], [b"1", {b"f": b"1", b"g": b"2"}, 2])
    equal(r.hdel("h", "f", "g", "none"), 2)
    equal(r.sadd("set", "a", "b", "c"), 3)
    equal(r.smembers("set"), {b"a", b"b", b"c"})
    equal([r.srem("set", "a"), r.scard("set")], [1, 2])
    assert r.spop("set") in (b"b", b"c")
    equal(r.zadd("z", {"a": 1, "b": 2.5, "c": float("inf")}), 3)
    equal(r.zadd("z", {"a": 5}, gt=True, ch=True), 1)
    equal(r.zscore("z", "b"), 2.5)
    scored = [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)]
    equal(scored, [(b"b", 2.5), (b"a", 5.0), (b"c", float("inf"))])
    equal(r.zrange("z", "(2.5", "+inf", byscore=True), [b"a", b"c"])
    equal([r.zrem("z", "c"), r.zcard("z")], [1, 2])
    popped = r.zpopmin("z")
    equal(popped[0] if isinstance(popped[0], bytes) else popped[0][0], b"b")
    refuses("WRONGTYPE", r.lpush, "z", 1)


def transactions(r):
    with r.pipeline() as pipe:
        pipe.set("t", 1).incr("t").get("t")
        equal(pipe.execute(), [True, 2, b"2"])
    with r.pipeline(transaction=False) as pipe:
        for i in range(2_000):
            pipe.set(f"p:{i}", i)
        equal(pipe.execute(), [True] * 2_000)
    with r.pipeline() as pipe:
        pipe.watch("t")
        r.set("t", 10)
        pipe.multi()
        pipe.set("t", 11)
        try:
            pipe.execute()
            raise AssertionError("a watched key had changed")
        except redis.WatchError:
            pass
    equal(r.get("t"), b"10")
    r.delete("total")

    def add_many():
        other = client()
        for _ in range(25):
            other.transaction(
                lambda pipe: (lambda now: (pipe.multi(), pipe.set("total", now + 1)))(
                    int(pipe.get("total") or 0)
                ),
                "total",
            )
        other.close()

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(r.get("total"), b"100")


def main():
    r = client()
    for part in (connections, server, strings, keys, collections, transactions):
        r.flushall()
        part(r)
    r.flushdb()
    equal(r.dbsize(), 0)
    r.close()


main()
