//! The sections of INFO, one function each.

use crate::command;
use crate::process;
use crate::pubsub::Kind;
use crate::server::Server;

use super::{human, line, store};

macro_rules! fields {
    ($out:expr, $($name:literal => $value:expr),* $(,)?) => {
        $(line($out, format_args!("{}:{}", $name, $value));)*
    };
}

pub(super) fn server(s: &Server, out: &mut String) {
    let uptime_s = s.now_ms.saturating_sub(s.started_ms) / 1000;
    let executable = std::env::current_exe().unwrap_or_default();
    let file = s.config.file.as_ref().map_or(String::new(), |f| f.display().to_string());
    fields! { out,
        "redis_version" => crate::REDIS_VERSION,
        "server_name" => "flintlock",
        "flintlock_version" => env!("CARGO_PKG_VERSION"),
        "redis_mode" => "standalone",
        "os" => process::os(),
        "arch_bits" => usize::BITS,
        "multiplexing_api" => "epoll",
        "process_id" => std::process::id(),
        "process_supervised" => "no",
        "run_id" => s.run_id,
        "tcp_port" => s.port,
        "server_time_usec" => s.now_ms * 1000,
        "uptime_in_seconds" => uptime_s,
        "uptime_in_days" => uptime_s / 86_400,
        "hz" => s.config.hz,
        "configured_hz" => s.config.hz,
        "executable" => executable.display(),
        "config_file" => file,
        "io_threads_active" => u8::from(s.offload.as_ref().is_some_and(|o| o.active() > 0)),
    }
    if let Some(by_ms) = s.end.by_ms() {
        fields! { out, "shutdown_in_milliseconds" => by_ms.saturating_sub(s.mono_ms) }
    }
}

pub(super) fn clients(s: &Server, out: &mut String) {
    let (mut blocked, mut input, mut output) = (0, 0, 0);
    for (_, client) in s.clients.iter() {
        blocked += usize::from(client.session.blocked.is_some());
        if let Some(io) = &client.io {
            input = input.max(io.input_state().0);
            output = output.max(io.out.len());
        }
    }
    fields! { out,
        "connected_clients" => s.clients.len(),
        "cluster_connections" => 0,
        "maxclients" => s.config.maxclients,
        "client_recent_max_input_buffer" => input,
        "client_recent_max_output_buffer" => output,
        "blocked_clients" => blocked,
        "tracking_clients" => 0,
        "clients_in_timeout_table" => s.waiters.timeouts(),
    }
}

pub(super) fn memory(s: &Server, out: &mut String) {
    let used = s.used_memory() as u64;
    let peak = used.max(s.stats.peak_memory as u64);
    let (rss, total) = (process::resident_bytes(), process::system_memory_bytes());
    let ratio = rss as f64 / used.max(1) as f64;
    let max = s.config.maxmemory_bytes;
    let dataset = s.keyspace.memory_bytes() as u64;
    let clients: usize = s.clients.iter().map(|(_, client)| client.memory_bytes()).sum();
    fields! { out,
        "used_memory" => used,
        "used_memory_human" => human(used),
        "used_memory_rss" => rss,
        "used_memory_rss_human" => human(rss),
        "used_memory_peak" => peak,
        "used_memory_peak_human" => human(peak),
        "used_memory_overhead" => used.saturating_sub(dataset),
        "used_memory_startup" => 0,
        "used_memory_dataset" => dataset,
        "allocator_allocated" => used,
        "allocator_active" => rss,
        "allocator_resident" => rss,
        "total_system_memory" => total,
        "total_system_memory_human" => human(total),
        "used_memory_lua" => 0,
        "used_memory_scripts" => 0,
        "maxmemory" => max,
        "maxmemory_human" => human(max),
        "maxmemory_policy" => s.config.maxmemory_policy.name(),
        "mem_clients_slaves" => 0,
        "mem_clients_normal" => clients,
        "mem_fragmentation_ratio" => format_args!("{ratio:.2}"),
        "mem_not_counted_for_evict" => 0,
        "mem_allocator" => "libc",
        "lazyfree_pending_objects" => s.garbage.len(),
    }
    if let Some(tier) = &s.tier {
        store::memory(&tier.cache, out);
    }
}

pub(super) fn persistence(s: &Server, out: &mut String) {
    let on_disk = u8::from(s.tier.is_some());
    let saves = &s.saves;
    let progress = s.save_progress();
    let status = if saves.has_failed() { "err" } else { store::status(s, false) };
    let or_minus_1 = |seconds: Option<u64>| seconds.map_or(-1, u64::cast_signed);
    let now = progress.unwrap_or_default();
    fields! { out,
        "loading" => 0,
        "async_loading" => 0,
        "current_fork_perc" => "0.00",
        "current_save_keys_processed" => now.keys,
        "current_save_keys_total" => now.keys_total,
        "current_save_bytes_processed" => now.bytes,
        "current_save_bytes_total" => now.bytes_total,
        "current_save_perc" => format_args!("{:.2}", now.percent),
        "rdb_changes_since_last_save" => s.stats.changes - s.stats.changes_saved,
        "rdb_bgsave_in_progress" => u8::from(saves.is_running()),
        "rdb_last_save_time" => saves.last_s,
        "rdb_last_bgsave_status" => status,
        "rdb_last_bgsave_time_sec" => or_minus_1(saves.last_took_s),
        "rdb_current_bgsave_time_sec" => or_minus_1(progress.map(|now| now.seconds)),
        "rdb_saves" => saves.done,
        "rdb_last_cow_size" => 0,
        "aof_enabled" => on_disk,
        "aof_rewrite_in_progress" => 0,
        "aof_rewrite_scheduled" => 0,
        "aof_last_rewrite_time_sec" => -1,
        "aof_current_rewrite_time_sec" => -1,
        "aof_last_bgrewrite_status" => "ok",
        "aof_last_write_status" => store::status(s, true),
        "aof_last_cow_size" => 0,
    }
    if let Some(tier) = &s.tier {
        store::persistence(&tier.cache, out);
    }
}

pub(super) fn stats(s: &Server, out: &mut String) {
    let st = &s.stats;
    let store = s.store_counts_since_reset();
    let cached_keys: usize = s.keyspace.dbs.used().map(|db| db.table.counts().values).sum();
    fields! { out,
        "total_connections_received" => st.connections,
        "total_commands_processed" => st.commands,
        "instantaneous_ops_per_sec" => st.rates.ops_per_sec,
        "total_net_input_bytes" => st.net_input_bytes,
        "total_net_output_bytes" => st.net_output_bytes,
        "instantaneous_input_kbps" => format_args!("{:.2}", st.rates.input_kbps),
        "instantaneous_output_kbps" => format_args!("{:.2}", st.rates.output_kbps),
        "rejected_connections" => st.rejected_connections,
        "sync_full" => 0,
        "sync_partial_ok" => 0,
        "sync_partial_err" => 0,
        "expired_keys" => st.expired_keys + store.loads_expired,
        "evicted_keys" => st.evicted_keys + store.evictions,
        "evicted_clients" => st.evicted_clients,
        "keyspace_hits" => st.keyspace_hits,
        "keyspace_misses" => st.keyspace_misses,
        "pubsub_channels" => s.pubsub.len(Kind::Channel),
        "pubsub_patterns" => s.pubsub.len(Kind::Pattern),
        "pubsubshard_channels" => s.pubsub.len(Kind::Shard),
        "latest_fork_usec" => 0,
        "total_forks" => 0,
        "migrate_cached_sockets" => 0,
        "total_error_replies" => st.error_replies,
        "total_reads_processed" => st.reads + st.offloaded_reads,
        "total_writes_processed" => st.writes + st.offloaded_writes,
        "io_threaded_reads_processed" => st.offloaded_reads,
        "io_threaded_writes_processed" => st.offloaded_writes,
        "io_threaded_poll_processed" => st.offloaded_polls,
        "io_threaded_accept_processed" => st.offloaded_accepts,
        "io_threaded_closes_processed" => st.offloaded_closes,
        "eventloop_cycles" => st.cycles,
        "eventloop_naps" => st.naps,
        "cached_keys" => cached_keys,
        "storage_provider_read_hits" => store.loads_found,
        "storage_provider_read_misses" => store.loads_absent,
    }
}

pub(super) fn replication(s: &Server, out: &mut String) {
    fields! { out,
        "role" => "master",
        "connected_slaves" => 0,
        "master_failover_state" => "no-failover",
        "master_replid" => s.run_id,
        "master_replid2" => "0000000000000000000000000000000000000000",
        "master_repl_offset" => 0,
        "second_repl_offset" => -1,
        "repl_backlog_active" => 0,
        "repl_backlog_size" => 0,
        "repl_backlog_first_byte_offset" => 0,
        "repl_backlog_histlen" => 0,
    }
}

pub(super) fn cpu(_: &Server, out: &mut String) {
    let all = process::cpu_seconds();
    let main = process::main_thread_cpu_seconds();
    fields! { out,
        "used_cpu_sys" => format_args!("{:.6}", all.1),
        "used_cpu_user" => format_args!("{:.6}", all.0),
        "used_cpu_sys_children" => "0.000000",
        "used_cpu_user_children" => "0.000000",
        "used_cpu_sys_main_thread" => format_args!("{:.6}", main.1),
        "used_cpu_user_main_thread" => format_args!("{:.6}", main.0),
    }
}

pub(super) fn iothreads(s: &Server, out: &mut String) {
    let Some(offload) = &s.offload else {
        fields! { out, "io_threads_max" => 1, "io_threads_active_workers" => 0 }
        return;
    };
    offload.write_info(out);
}

pub(super) fn commandstats(s: &Server, out: &mut String) {
    let rows = command::all().iter().zip(&s.stats.per_command);
    for (row, count) in rows.filter(|(_, c)| c.calls + c.rejected > 0) {
        // Only some runs are timed; the sum is scaled up to all of them.
        let per_call = count.us_per_call();
        line(
            out,
            format_args!(
                "cmdstat_{}:calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},\
                 failed_calls={}",
                row.name,
                count.calls,
                (per_call * count.calls as f64) as u64,
                count.rejected,
                count.failed,
            ),
        );
    }
}

pub(super) fn errorstats(s: &Server, out: &mut String) {
    for (prefix, count) in &s.stats.errors {
        line(out, format_args!("errorstat_{prefix}:count={count}"));
    }
}

pub(super) fn cluster(_: &Server, out: &mut String) {
    line(out, format_args!("cluster_enabled:0"));
}

pub(super) fn keyspace(s: &Server, out: &mut String) {
    for (index, db) in s.keyspace.dbs.iter().enumerate() {
        let (counts, keys) = (db.table.counts(), s.key_count(index));
        if keys > 0 {
            // How many of the keys on disk expire nobody knows: those in memory are counted.
            let (expires, cached) = (counts.volatile, counts.values);
            line(
                out,
                format_args!(
                    "db{index}:keys={keys},expires={expires},avg_ttl=0,cached_keys={cached}"
                ),
            );
        }
    }
}
