// node-redis over the commands of the first release. usage: node node_redis.mjs PORT
import assert from "node:assert/strict";
import { createClient } from "redis";

const port = Number(process.argv[2]);

for (const RESP of [2, 3]) {
  const client = createClient({ socket: { port }, RESP, database: 1, name: "smoke" });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  await client.flushAll();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.echo("hello"), "hello");
  assert.equal(await client.clientGetName(), "smoke");
  assert.match(await client.info(), /redis_version:/);

  assert.equal(await client.set("k", "v", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.set("k", "w", { condition: "NX" }), null);
  assert.ok((await client.ttl("k")) > 0);
  assert.equal(await client.persist("k"), 1);
  await client.mSet({ a: "1", b: "2" });
  assert.deepEqual(await client.mGet(["a", "b", "none"]), ["1", "2", null]);
  assert.equal(await client.incrBy("a", 41), 42);
  assert.equal(await client.getDel("a"), "42");
  assert.equal(await client.exists(["a", "b"]), 1);
  assert.equal(await client.del(["a", "b"]), 1);

  assert.equal(await client.rPush("l", ["1", "2", "3"]), 3);
  assert.deepEqual(await client.lRange("l", 0, -1), ["1", "2", "3"]);
  assert.equal(await client.lPop("l"), "1");
  assert.equal(await client.hSet("h", { f: "1", g: "2" }), 2);
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  assert.equal(await client.sAdd("s", ["a", "b"]), 2);
  assert.deepEqual([...(await client.sMembers("s"))].sort(), ["a", "b"]);
  assert.equal(await client.zAdd("z", [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]), 2);
  assert.equal(await client.zScore("z", "b"), 2.5);
  assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [
    { value: "a", score: 1 },
    { value: "b", score: 2.5 },
  ]);
  assert.deepEqual(await client.zPopMin("z"), { value: "a", score: 1 });

  assert.deepEqual(await client.multi().set("t", "1").incr("t").get("t").exec(), ["OK", 2, "2"]);
  const many = Array.from({ length: 2000 }, (_, i) => client.set(`p:${i}`, String(i)));
  assert.ok((await Promise.all(many)).every((reply) => reply === "OK"));
  const seen = new Set();
  for await (const keys of client.scanIterator({ MATCH: "p:*", COUNT: 100 })) {
    [keys].flat().forEach((key) => seen.add(key));
  }
  assert.equal(seen.size, 2000);
  await assert.rejects(client.lPush("t", "1"), /WRONGTYPE/);
  await assert.rejects(client.sendCommand(["NOSUCH"]), /unknown command/);
  await client.flushAll();
  client.destroy();
}
