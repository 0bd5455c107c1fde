//! What COMMAND DOCS says of each command: one line a command, in our own words.
//!
//! Apart from the rows so that a family's rows stay one line each.

use super::Command;

/// The family of a command, as clients group them.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Group {
    Generic,
    String,
    Bitmap,
    List,
    Hash,
    Set,
    SortedSet,
    Transactions,
    PubSub,
    Connection,
    Server,
}

impl Group {
    /// The name in COMMAND DOCS.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::Bitmap => "bitmap",
            Self::List => "list",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Transactions => "transactions",
            Self::PubSub => "pubsub",
            Self::Connection => "connection",
            Self::Server => "server",
        }
    }

    /// The ACL category; commands about the server have none in common.
    pub(super) const fn category(self) -> Option<&'static str> {
        Some(match self {
            Self::Generic => "@keyspace",
            Self::String => "@string",
            Self::Bitmap => "@bitmap",
            Self::List => "@list",
            Self::Hash => "@hash",
            Self::Set => "@set",
            Self::SortedSet => "@sortedset",
            Self::Transactions => "@transaction",
            Self::PubSub => "@pubsub",
            Self::Connection => "@connection",
            Self::Server => return None,
        })
    }
}

/// See the module doc.
#[derive(Copy, Clone, Debug)]
pub(super) struct Docs {
    pub name: &'static str,
    pub group: Group,
    pub since: &'static str,
    pub complexity: &'static str,
    pub summary: &'static str,
}

const fn doc(
    name: &'static str,
    group: Group,
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
) -> Docs {
    Docs { name, group, since, complexity, summary }
}

const CONST: &str = "O(1)";
const KEYS: &str = "O(N) with N the number of keys named";
const ALL: &str = "O(N) with N the number of keys in the database";
const ITEMS: &str = "O(N) with N the number of elements named";
const WHOLE: &str = "O(N) with N the number of elements in the value";
const LOG: &str = "O(log(N)) for each member, with N the size of the sorted set";
const SORTED: &str = "O(N*log(N)) with N the number of elements in the value";
const BYTES: &str = "O(N) with N the number of bytes read";
const DRAWN: &str = "O(N) with N the number of elements asked for";
const SETS: &str = "O(N) with N the number of elements in all of the values";
const INTER: &str = "O(N*M) with N the size of the smallest value and M their number";
const SOUGHT: &str = "O(N) with N the number of elements to the place from the nearer end";
const CUT: &str = "O(N) with N the number of elements deleted";
const RANK: &str = "O(log(N)) with N the size of the sorted set";
const RANGE: &str = "O(log(N)+M) with N the size of the sorted set and M that of the range";
const ZSETS: &str = "O(N*log(N)) with N the number of elements in all of the values";
const FIELDS: &str = "O(1) for each number";
const LONGEST: &str = "O(N) with N the number of bytes of the longest string";
const PRODUCT: &str = "O(N*M) with N and M the numbers of bytes of the strings";
const MANY: &str = "O(N+M) with N the number of keys named and M that of elements taken";
const MANY_LOG: &str =
    "O(N+M*log(K)) with N the number of keys named, M that of members taken and K the set's size";
const COMMANDS: &str = "O(N) with N the number of commands";
const SHOWN: &str = "O(N) with N the number of entries asked for";
const SLOW: &str = "O(N) with N the number of entries";
const CLIENTS: &str = "O(N) with N the number of clients";
const NAMED: &str = "O(N) with N the number of names";
const LEFT: &str = "O(N) with N the number of subscribers of the names";
const SENT: &str = "O(N+M) with N the number of receivers and M that of patterns";
const SHARD_SENT: &str = "O(N) with N the number of receivers";
const CHANNELS: &str = "O(N) with N the number of channels with subscribers";

use Group::{
    Bitmap, Connection, Generic, Hash, List, PubSub, Server, Set, SortedSet, String, Transactions,
};

/// One row a command, sorted by name.
const DOCS: &[Docs] = &[
    doc("append", String, "2.0.0", CONST, "Adds bytes to the end of a string"),
    doc("auth", Connection, "1.0.0", CONST, "Proves the right to use the server"),
    doc("bgsave", Server, "1.0.0", CONST, "Writes a backup in the background"),
    doc("bitcount", Bitmap, "2.6.0", BYTES, "Counts the set bits of a string"),
    doc("bitfield", Bitmap, "3.2.0", FIELDS, "Reads and changes numbers of some bits in a string"),
    doc("bitfield_ro", Bitmap, "6.0.0", FIELDS, "Reads numbers of some bits in a string"),
    doc("bitop", Bitmap, "2.6.0", LONGEST, "Stores what AND, OR, XOR or NOT make of strings"),
    doc("bitpos", Bitmap, "2.8.7", BYTES, "Finds the first set or clear bit of a string"),
    doc("blmove", List, "6.2.0", CONST, "Moves an element between lists, or waits for one"),
    doc("blmpop", List, "7.0.0", MANY, "Takes elements from the first list that exists, or waits"),
    doc("blpop", List, "2.0.0", KEYS, "Takes the first element of a list, or waits for one"),
    doc("brpop", List, "2.0.0", KEYS, "Takes the last element of a list, or waits for one"),
    doc("brpoplpush", List, "2.2.0", CONST, "Moves a last element to another's head, or waits"),
    doc("bzmpop", SortedSet, "7.0.0", MANY_LOG, "Takes members of the first set, or waits for one"),
    doc("bzpopmax", SortedSet, "5.0.0", LOG, "Takes the member with the highest score, or waits"),
    doc("bzpopmin", SortedSet, "5.0.0", LOG, "Takes the member with the lowest score, or waits"),
    doc("client", Connection, "2.4.0", CONST, "Commands about connections"),
    doc("client|getname", Connection, "2.6.9", CONST, "Tells the name of this connection"),
    doc("client|help", Connection, "5.0.0", CONST, "Lists the subcommands"),
    doc("client|id", Connection, "5.0.0", CONST, "Tells the number of this connection"),
    doc("client|info", Connection, "6.2.0", CONST, "Describes this connection"),
    doc("client|kill", Connection, "2.4.0", CLIENTS, "Closes connections"),
    doc("client|list", Connection, "2.4.0", CLIENTS, "Describes the connections"),
    doc("client|no-evict", Connection, "7.0.0", CONST, "Exempts this connection from eviction"),
    doc("client|pause", Connection, "3.0.0", CONST, "Makes requests of all clients wait"),
    doc("client|setinfo", Connection, "7.2.0", CONST, "Notes the client library and its version"),
    doc("client|setname", Connection, "2.6.9", CONST, "Names this connection"),
    doc("client|unblock", Connection, "5.0.0", CLIENTS, "Ends the wait of a client for an element"),
    doc("client|unpause", Connection, "6.2.0", CLIENTS, "Ends a pause"),
    doc("command", Server, "2.8.13", CONST, "Describes the commands"),
    doc("command|count", Server, "2.8.13", CONST, "Counts the commands"),
    doc("command|docs", Server, "7.0.0", CONST, "Documents commands"),
    doc("command|getkeys", Server, "2.8.13", KEYS, "Tells which arguments are keys"),
    doc("command|help", Server, "5.0.0", CONST, "Lists the subcommands"),
    doc("command|info", Server, "2.8.13", CONST, "Describes commands"),
    doc("command|list", Server, "7.0.0", COMMANDS, "Lists the names of commands"),
    doc("config", Server, "2.0.0", CONST, "Commands about the configuration"),
    doc("config|get", Server, "2.0.0", CONST, "Shows directives by pattern"),
    doc("config|help", Server, "5.0.0", CONST, "Lists the subcommands"),
    doc("config|resetstat", Server, "2.0.0", CONST, "Starts the counters of INFO anew"),
    doc("config|rewrite", Server, "2.8.0", CONST, "Writes the directives back to their file"),
    doc("config|set", Server, "2.0.0", CONST, "Changes directives while running"),
    doc("copy", Generic, "6.2.0", CONST, "Copies a key, to another database too"),
    doc("dbsize", Server, "1.0.0", CONST, "Counts the keys of the database"),
    doc("debug", Server, "1.0.0", CONST, "Commands for tests"),
    doc("decr", String, "1.0.0", CONST, "Takes one from a number"),
    doc("decrby", String, "1.0.0", CONST, "Takes a number from a number"),
    doc("del", Generic, "1.0.0", KEYS, "Deletes keys"),
    doc("discard", Transactions, "2.0.0", ITEMS, "Forgets the commands queued since MULTI"),
    doc("echo", Connection, "1.0.0", CONST, "Sends back what was sent"),
    doc("exec", Transactions, "1.2.0", ITEMS, "Runs the commands queued since MULTI"),
    doc("exists", Generic, "1.0.0", KEYS, "Counts which of the keys exist"),
    doc("expire", Generic, "1.0.0", CONST, "Sets the seconds that a key has left"),
    doc("expireat", Generic, "1.2.0", CONST, "Sets the Unix time at which a key expires"),
    doc("expiretime", Generic, "7.0.0", CONST, "Tells the Unix time at which a key expires"),
    doc("flint.explain", Server, "7.2.4", CONST, "Tells where a key is between memory and disk"),
    doc("flint.iothreads", Server, "7.2.4", CONST, "Commands about the IO threads"),
    doc("flint.iothreads|help", Server, "7.2.4", CONST, "Lists the subcommands"),
    doc("flint.iothreads|log", Server, "7.2.4", CONST, "Lists when the number of workers changed"),
    doc("flushall", Server, "1.0.0", CONST, "Deletes every key of every database"),
    doc("flushdb", Server, "1.0.0", CONST, "Deletes every key of the database"),
    doc("get", String, "1.0.0", CONST, "Reads a string"),
    doc("getbit", Bitmap, "2.2.0", CONST, "Reads a bit of a string"),
    doc("getdel", String, "6.2.0", CONST, "Reads a string and deletes it"),
    doc("getex", String, "6.2.0", CONST, "Reads a string and changes its expiry"),
    doc("getrange", String, "2.4.0", BYTES, "Reads a part of a string"),
    doc("getset", String, "1.0.0", CONST, "Sets a string and reads what it was"),
    doc("hdel", Hash, "2.0.0", ITEMS, "Deletes fields of a hash"),
    doc("hello", Connection, "6.0.0", CONST, "Agrees on a protocol version"),
    doc("hexists", Hash, "2.0.0", CONST, "Tells whether a hash has a field"),
    doc("hget", Hash, "2.0.0", CONST, "Reads a field of a hash"),
    doc("hgetall", Hash, "2.0.0", WHOLE, "Reads every field of a hash"),
    doc("hincrby", Hash, "2.0.0", CONST, "Adds a number to a field of a hash"),
    doc("hincrbyfloat", Hash, "2.6.0", CONST, "Adds a number with a fraction to a field of a hash"),
    doc("hkeys", Hash, "2.0.0", WHOLE, "Reads the names of the fields of a hash"),
    doc("hlen", Hash, "2.0.0", CONST, "Counts the fields of a hash"),
    doc("hmget", Hash, "2.0.0", ITEMS, "Reads fields of a hash"),
    doc("hmset", Hash, "2.0.0", ITEMS, "Sets fields of a hash"),
    doc("hrandfield", Hash, "6.2.0", DRAWN, "Reads random fields of a hash"),
    doc("hscan", Hash, "2.8.0", CONST, "Reads the fields of a hash in steps"),
    doc("hset", Hash, "2.0.0", ITEMS, "Sets fields of a hash"),
    doc("hsetnx", Hash, "2.0.0", CONST, "Sets a field of a hash if it does not exist"),
    doc("hstrlen", Hash, "3.2.0", CONST, "Measures a field of a hash"),
    doc("hvals", Hash, "2.0.0", WHOLE, "Reads the values of the fields of a hash"),
    doc("incr", String, "1.0.0", CONST, "Adds one to a number"),
    doc("incrby", String, "1.0.0", CONST, "Adds a number to a number"),
    doc("incrbyfloat", String, "2.6.0", CONST, "Adds a number with a fraction to a number"),
    doc("info", Server, "1.0.0", CONST, "Describes the state of the server"),
    doc("keys", Generic, "1.0.0", ALL, "Lists the keys that match a pattern"),
    doc("lastsave", Server, "1.0.0", CONST, "Tells when the last backup was written"),
    doc("lcs", String, "7.0.0", PRODUCT, "Reads the longest common subsequence of two strings"),
    doc("lindex", List, "1.0.0", SOUGHT, "Reads an element of a list"),
    doc("linsert", List, "2.2.0", SOUGHT, "Adds an element before or after another of a list"),
    doc("llen", List, "1.0.0", CONST, "Counts the elements of a list"),
    doc("lmove", List, "6.2.0", CONST, "Moves an element from an end of a list to one of another"),
    doc("lmpop", List, "7.0.0", MANY, "Takes elements from the first list that exists"),
    doc("lpop", List, "1.0.0", ITEMS, "Takes elements from the head of a list"),
    doc("lpos", List, "6.0.6", WHOLE, "Tells where a list has an element"),
    doc("lpush", List, "1.0.0", ITEMS, "Adds elements to the head of a list"),
    doc("lpushx", List, "2.2.0", ITEMS, "Adds elements to the head of a list if it exists"),
    doc("lrange", List, "1.0.0", WHOLE, "Reads a range of a list"),
    doc("lrem", List, "1.0.0", WHOLE, "Deletes elements of a list that equal another"),
    doc("lset", List, "1.0.0", SOUGHT, "Sets an element of a list"),
    doc("ltrim", List, "1.0.0", CUT, "Deletes what is outside of a range of a list"),
    doc("memory", Server, "4.0.0", CONST, "Commands about memory"),
    doc("memory|help", Server, "4.0.0", CONST, "Lists the subcommands"),
    doc("memory|usage", Server, "4.0.0", CONST, "Tells the bytes that a key takes"),
    doc("mget", String, "1.0.0", KEYS, "Reads strings"),
    doc("move", Generic, "1.0.0", CONST, "Moves a key to another database"),
    doc("mset", String, "1.0.1", KEYS, "Sets strings, all at once"),
    doc("msetnx", String, "1.0.1", KEYS, "Sets strings if none of the keys exists"),
    doc("multi", Transactions, "1.2.0", CONST, "Queues the commands that follow"),
    doc("object", Generic, "2.2.3", CONST, "Commands about how a key is kept"),
    doc("object|encoding", Generic, "2.2.3", CONST, "Tells the encoding of a value"),
    doc("object|freq", Generic, "4.0.0", CONST, "Tells how often a key was used, logarithmically"),
    doc("object|help", Generic, "6.2.0", CONST, "Lists the subcommands"),
    doc("object|idletime", Generic, "2.2.3", CONST, "Tells the seconds since a key was used"),
    doc("object|refcount", Generic, "2.2.3", CONST, "Tells how many references a value has"),
    doc("persist", Generic, "2.2.0", CONST, "Takes the expiry from a key"),
    doc("pexpire", Generic, "2.6.0", CONST, "Sets the milliseconds that a key has left"),
    doc("pexpireat", Generic, "2.6.0", CONST, "Sets the Unix time in milliseconds of expiry"),
    doc("pexpiretime", Generic, "7.0.0", CONST, "Tells the Unix time in milliseconds of expiry"),
    doc("ping", Connection, "1.0.0", CONST, "Answers"),
    doc("psetex", String, "2.6.0", CONST, "Sets a string and the milliseconds that it has left"),
    doc("psubscribe", PubSub, "2.0.0", NAMED, "Subscribes to the channels that match patterns"),
    doc("pttl", Generic, "2.6.0", CONST, "Tells the milliseconds that a key has left"),
    doc("publish", PubSub, "2.0.0", SENT, "Sends a message to the subscribers of a channel"),
    doc("pubsub", PubSub, "2.8.0", CONST, "Commands about subscriptions"),
    doc("pubsub|channels", PubSub, "2.8.0", CHANNELS, "Lists the channels that have subscribers"),
    doc("pubsub|help", PubSub, "6.2.0", CONST, "Lists the subcommands"),
    doc("pubsub|numpat", PubSub, "2.8.0", CONST, "Counts the patterns that have subscribers"),
    doc("pubsub|numsub", PubSub, "2.8.0", NAMED, "Counts the subscribers of channels"),
    doc(
        "pubsub|shardchannels",
        PubSub,
        "7.0.0",
        CHANNELS,
        "Lists the shard channels that have subscribers",
    ),
    doc("pubsub|shardnumsub", PubSub, "7.0.0", NAMED, "Counts the subscribers of shard channels"),
    doc("punsubscribe", PubSub, "2.0.0", LEFT, "Ends subscriptions to patterns"),
    doc("quit", Connection, "1.0.0", CONST, "Closes this connection"),
    doc("randomkey", Generic, "1.0.0", CONST, "Names any key of the database"),
    doc("rename", Generic, "1.0.0", CONST, "Gives a key another name"),
    doc("renamenx", Generic, "1.0.0", CONST, "Gives a key another name if no key has it"),
    doc("reset", Connection, "6.2.0", CONST, "Makes this connection as good as new"),
    doc("role", Server, "2.8.12", CONST, "Tells whether others follow this server"),
    doc("rpop", List, "1.0.0", ITEMS, "Takes elements from the tail of a list"),
    doc("rpoplpush", List, "1.2.0", CONST, "Moves the last element of a list to another's head"),
    doc("rpush", List, "1.0.0", ITEMS, "Adds elements to the tail of a list"),
    doc("rpushx", List, "2.2.0", ITEMS, "Adds elements to the tail of a list if it exists"),
    doc("sadd", Set, "1.0.0", ITEMS, "Adds members to a set"),
    doc("save", Server, "1.0.0", CONST, "Writes a backup and answers when it is whole"),
    doc("scan", Generic, "2.8.0", CONST, "Lists the keys of the database in steps"),
    doc("scard", Set, "1.0.0", CONST, "Counts the members of a set"),
    doc("sdiff", Set, "1.0.0", SETS, "Reads the members that only the first of the sets has"),
    doc("sdiffstore", Set, "1.0.0", SETS, "Stores the members that only the first of the sets has"),
    doc("select", Connection, "1.0.0", CONST, "Changes the database of this connection"),
    doc("set", String, "1.0.0", CONST, "Sets a string"),
    doc("setbit", Bitmap, "2.2.0", CONST, "Sets or clears a bit of a string"),
    doc("setex", String, "2.0.0", CONST, "Sets a string and the seconds that it has left"),
    doc("setnx", String, "1.0.0", CONST, "Sets a string if the key does not exist"),
    doc("setrange", String, "2.2.0", CONST, "Overwrites a part of a string"),
    doc("shutdown", Server, "1.0.0", CONST, "Ends the server"),
    doc("sinter", Set, "1.0.0", INTER, "Reads the members that all of the sets have"),
    doc("sintercard", Set, "7.0.0", INTER, "Counts the members that all of the sets have"),
    doc("sinterstore", Set, "1.0.0", INTER, "Stores the members that all of the sets have"),
    doc("sismember", Set, "1.0.0", CONST, "Tells whether a set has a member"),
    doc("slowlog", Server, "2.2.12", CONST, "Commands about commands that took long"),
    doc("slowlog|get", Server, "2.2.12", SHOWN, "Lists the latest commands that took long"),
    doc("slowlog|help", Server, "6.2.0", CONST, "Lists the subcommands"),
    doc("slowlog|len", Server, "2.2.12", CONST, "Counts the entries of the slow log"),
    doc("slowlog|reset", Server, "2.2.12", SLOW, "Forgets the entries of the slow log"),
    doc("smembers", Set, "1.0.0", WHOLE, "Reads every member of a set"),
    doc("smismember", Set, "6.2.0", ITEMS, "Tells which members a set has"),
    doc("smove", Set, "1.0.0", CONST, "Moves a member to another set"),
    doc("sort", Generic, "1.0.0", SORTED, "Sorts the elements of a collection"),
    doc("sort_ro", Generic, "7.0.0", SORTED, "Sorts the elements of a collection, without STORE"),
    doc("spop", Set, "1.0.0", ITEMS, "Takes random members from a set"),
    doc(
        "spublish",
        PubSub,
        "7.0.0",
        SHARD_SENT,
        "Sends a message to the subscribers of a shard channel",
    ),
    doc("srandmember", Set, "1.0.0", DRAWN, "Reads random members of a set"),
    doc("srem", Set, "1.0.0", ITEMS, "Takes members from a set"),
    doc("sscan", Set, "2.8.0", CONST, "Reads the members of a set in steps"),
    doc("ssubscribe", PubSub, "7.0.0", NAMED, "Subscribes to shard channels"),
    doc("strlen", String, "2.2.0", CONST, "Measures a string"),
    doc("subscribe", PubSub, "2.0.0", NAMED, "Subscribes to channels"),
    doc("substr", String, "1.0.0", BYTES, "Reads a part of a string"),
    doc("sunion", Set, "1.0.0", SETS, "Reads the members that any of the sets has"),
    doc("sunionstore", Set, "1.0.0", SETS, "Stores the members that any of the sets has"),
    doc("sunsubscribe", PubSub, "7.0.0", LEFT, "Ends subscriptions to shard channels"),
    doc("swapdb", Server, "4.0.0", CONST, "Exchanges two databases"),
    doc("time", Server, "2.6.0", CONST, "Tells the time of the server's clock"),
    doc("touch", Generic, "3.2.1", KEYS, "Counts which of the keys exist, as used just now"),
    doc("ttl", Generic, "1.0.0", CONST, "Tells the seconds that a key has left"),
    doc("type", Generic, "1.0.0", CONST, "Tells the type of a key"),
    doc("unlink", Generic, "4.0.0", KEYS, "Deletes keys and frees them in the background"),
    doc("unsubscribe", PubSub, "2.0.0", LEFT, "Ends subscriptions to channels"),
    doc("unwatch", Transactions, "2.2.0", CONST, "Forgets every WATCH"),
    doc("watch", Transactions, "2.2.0", KEYS, "Makes EXEC depend on keys staying as they are"),
    doc("zadd", SortedSet, "1.2.0", LOG, "Adds members to a sorted set or changes scores"),
    doc("zcard", SortedSet, "1.2.0", CONST, "Counts the members of a sorted set"),
    doc("zcount", SortedSet, "2.0.0", RANK, "Counts the members in a range of scores"),
    doc("zdiff", SortedSet, "6.2.0", ZSETS, "Reads the members that only the first set has"),
    doc("zdiffstore", SortedSet, "6.2.0", ZSETS, "Stores the members that only the first set has"),
    doc("zincrby", SortedSet, "1.2.0", RANK, "Adds a number to the score of a member"),
    doc("zinter", SortedSet, "6.2.0", ZSETS, "Reads the members that all of the sets have"),
    doc("zintercard", SortedSet, "7.0.0", INTER, "Counts the members that all of the sets have"),
    doc("zinterstore", SortedSet, "2.0.0", ZSETS, "Stores the members that all of the sets have"),
    doc("zlexcount", SortedSet, "2.8.9", RANK, "Counts the members in a range of names"),
    doc(
        "zmpop",
        SortedSet,
        "7.0.0",
        MANY_LOG,
        "Takes members from the first sorted set that exists",
    ),
    doc("zmscore", SortedSet, "6.2.0", ITEMS, "Reads the scores of members"),
    doc("zpopmax", SortedSet, "5.0.0", LOG, "Takes the members with the highest scores"),
    doc("zpopmin", SortedSet, "5.0.0", LOG, "Takes the members with the lowest scores"),
    doc("zrandmember", SortedSet, "6.2.0", DRAWN, "Reads random members of a sorted set"),
    doc("zrange", SortedSet, "1.2.0", WHOLE, "Reads a range of a sorted set"),
    doc("zrangebylex", SortedSet, "2.8.9", RANGE, "Reads a range of names of a sorted set"),
    doc("zrangebyscore", SortedSet, "1.0.5", RANGE, "Reads a range of scores of a sorted set"),
    doc("zrangestore", SortedSet, "6.2.0", RANGE, "Stores a range of a sorted set"),
    doc("zrank", SortedSet, "2.0.0", RANK, "Tells how many members have a lower score"),
    doc("zrem", SortedSet, "1.2.0", LOG, "Takes members from a sorted set"),
    doc("zremrangebylex", SortedSet, "2.8.9", RANGE, "Deletes a range of names of a sorted set"),
    doc("zremrangebyrank", SortedSet, "2.0.0", RANGE, "Deletes a range of ranks of a sorted set"),
    doc("zremrangebyscore", SortedSet, "1.2.0", RANGE, "Deletes a range of scores of a sorted set"),
    doc("zrevrange", SortedSet, "1.2.0", RANGE, "Reads a range of ranks from the highest score"),
    doc("zrevrangebylex", SortedSet, "2.8.9", RANGE, "Reads a range of names from the last"),
    doc("zrevrangebyscore", SortedSet, "2.2.0", RANGE, "Reads a range of scores from the highest"),
    doc("zrevrank", SortedSet, "2.0.0", RANK, "Tells how many members have a higher score"),
    doc("zscan", SortedSet, "2.8.0", CONST, "Reads the members of a sorted set in steps"),
    doc("zscore", SortedSet, "1.2.0", CONST, "Reads the score of a member"),
    doc("zunion", SortedSet, "6.2.0", ZSETS, "Reads the members that any of the sets has"),
    doc("zunionstore", SortedSet, "2.0.0", ZSETS, "Stores the members that any of the sets has"),
];

/// The documentation of a row.
pub(super) fn of(row: &Command) -> &'static Docs {
    let found = DOCS.binary_search_by(|d| d.name.cmp(row.name));
    &DOCS[found.expect("a test checks that every row is documented")]
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::util::page::{Page, wrapped};

    #[test]
    fn the_page_on_commands_is_what_the_table_says() {
        let mut page = Page::open("commands.md");
        let mut served = std::string::String::new();
        for (group, title) in [
            (Generic, "Keys"),
            (String, "Strings"),
            (Bitmap, "Bits of strings"),
            (List, "Lists"),
            (Hash, "Hashes"),
            (Set, "Sets"),
            (SortedSet, "Sorted sets"),
            (Transactions, "Transactions"),
            (PubSub, "Publish and subscribe"),
            (Connection, "Connections"),
            (Server, "The server"),
        ] {
            write!(served, "\n## {title}\n\n| command | since Redis | time | what it does |\n")
                .expect("a string grows");
            served.push_str("|---|---|---|---|\n");
            for doc in DOCS.iter().filter(|doc| doc.group == group) {
                let name = doc.name.to_uppercase().replace('|', " ");
                let Docs { since, complexity, summary, .. } = doc;
                writeln!(served, "| `{name}` | {since} | {complexity} | {summary} |")
                    .expect("a string grows");
            }
        }
        page.set("served", &served);
        let absent = page.part("absent").split('`').skip(1).step_by(2);
        let absent = absent.filter(|name| super::super::lookup(name.as_bytes()).is_none());
        let absent = wrapped(absent.map(|name| format!("`{name}`")));
        page.set("absent", &absent);
        page.finish();
    }

    #[test]
    fn every_row_is_documented_and_nothing_else_is() {
        assert!(DOCS.windows(2).all(|w| w[0].name < w[1].name), "sorted by name");
        let names: Vec<_> = super::super::all().iter().map(|row| row.name).collect();
        for row in super::super::all() {
            assert_eq!(of(row).name, row.name);
        }
        for docs in DOCS {
            assert!(names.contains(&docs.name), "{} is documented but absent", docs.name);
        }
    }
}
