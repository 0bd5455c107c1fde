// ioredis over the commands of the first release. usage: node ioredis.mjs PORT
import assert from "node:assert/strict";
import Redis from "ioredis";

const port = Number(process.argv[2]);
const redis = new Redis({ port, db: 1, connectionName: "smoke" });
redis.on("error", (error) => {
  throw error;
});

await redis.flushall();
assert.equal(await redis.ping(), "PONG");
assert.equal(await redis.echo("hello"), "hello");
assert.equal(await redis.client("GETNAME"), "smoke");
assert.match(await redis.info("server"), /redis_version:/);

assert.equal(await redis.set("k", "v", "EX", 100), "OK");
assert.equal(await redis.get("k"), "v");
assert.equal(await redis.set("k", "w", "NX"), null);
assert.ok((await redis.ttl("k")) > 0);
assert.equal(await redis.getex("k", "PERSIST"), "v");
assert.equal(await redis.ttl("k"), -1);
await redis.mset({ a: 1, b: 2 });
assert.deepEqual(await redis.mget("a", "b", "none"), ["1", "2", null]);
assert.equal(await redis.incrby("a", 41), 42);
assert.equal(await redis.append("b", "3"), 2);
await redis.set("binary", Buffer.from([0, 255, 13, 10]));
assert.deepEqual(await redis.getBuffer("binary"), Buffer.from([0, 255, 13, 10]));
assert.equal(await redis.exists("a", "b", "none"), 2);
assert.equal(await redis.del("a", "none"), 1);
assert.equal(await redis.unlink("b"), 1);
assert.equal(await redis.pexpire("k", 100000), 1);
assert.equal(await redis.rename("k", "renamed"), "OK");
assert.equal(await redis.type("renamed"), "string");

assert.equal(await redis.rpush("l", 1, 2, 3), 3);
assert.deepEqual(await redis.lrange("l", 0, -1), ["1", "2", "3"]);
assert.equal(await redis.lpop("l"), "1");
assert.deepEqual(await redis.rpop("l", 5), ["3", "2"]);
assert.equal(await redis.hset("h", { f: 1, g: 2 }), 2);
assert.deepEqual(await redis.hgetall("h"), { f: "1", g: "2" });
assert.equal(await redis.hget("h", "f"), "1");
assert.equal(await redis.hdel("h", "f"), 1);
assert.equal(await redis.sadd("s", "a", "b"), 2);
assert.deepEqual((await redis.smembers("s")).sort(), ["a", "b"]);
assert.ok(["a", "b"].includes(await redis.spop("s")));
assert.equal(await redis.zadd("z", 1, "a", 2.5, "b"), 2);
assert.equal(Number(await redis.zscore("z", "b")), 2.5);
assert.deepEqual(await redis.zrange("z", 0, -1), ["a", "b"]);
assert.equal((await redis.zpopmin("z")).flat()[0], "a");

const results = await redis.multi().set("t", 1).incr("t").get("t").exec();
assert.deepEqual(results, [[null, "OK"], [null, 2], [null, "2"]]);
const pipeline = redis.pipeline();
for (let i = 0; i < 2000; i++) pipeline.set(`p:${i}`, i);
assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"));
const seen = new Set();
for await (const keys of redis.scanStream({ match: "p:*", count: 100 })) {
  keys.forEach((key) => seen.add(key));
}
assert.equal(seen.size, 2000);

const other = redis.duplicate();
await redis.watch("t");
await other.set("t", 5);
assert.equal(await redis.multi().set("t", 6).exec(), null);
assert.equal(await redis.get("t"), "5");
await assert.rejects(redis.lpush("t", 1), /WRONGTYPE/);
await assert.rejects(redis.call("NOSUCH"), /unknown command/);
await other.quit();
await redis.flushall();
await redis.quit();
