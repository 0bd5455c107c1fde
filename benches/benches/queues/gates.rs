//! How fast ours have to be, as ratios to the best rival of the same run and regime.
//!
//! Pure. Two cores of a busy virtual machine give noisy ratios, so a gate fails only below
//! [`TOLERANCE`] of what it asks; what is exact, instructions, is gated by
//! `make instructions`.

use super::groups::Group;
use flintlock_benches::queues::machine::Regime;
use flintlock_benches::queues::report::Samples;

/// Share of a gate below which it fails.
pub(crate) const TOLERANCE: f64 = 0.7;

/// Whom to compare with.
#[derive(Clone, Copy, Debug)]
enum Peer {
    /// The best rival of the group.
    Best,
    /// This row.
    Row(&'static str),
}

/// A demand: ours, compared with a peer, are so many times as fast.
#[derive(Clone, Copy, Debug)]
struct Gate {
    group: &'static str,
    load: &'static str,
    ours: &'static str,
    peer: Peer,
    /// Between near cores and between far ones; 0 asks for nothing.
    times: [f64; 2],
}

const fn gate(
    group: &'static str,
    load: &'static str,
    ours: &'static str,
    peer: Peer,
    times: [f64; 2],
) -> Gate {
    Gate { group, load, ours, peer, times }
}

const GATES: &[Gate] = &[
    gate("pair", "1 item", "spsc Words", Peer::Row("rtrb"), [1.0, 0.0]),
    gate("pair", "1 item", "spmc Words", Peer::Row("crossbeam ArrayQueue"), [1.54, 0.0]),
    gate("pair", "1 item", "mpsc::rings Words", Peer::Row("crossbeam ArrayQueue"), [3.33, 0.0]),
    gate("pair", "1 item", "mpsc::shared Words", Peer::Row("crossbeam ArrayQueue"), [1.54, 0.0]),
    gate("spsc", "batch 1", "spsc Words", Peer::Best, [1.35, 2.5]),
    gate("spsc", "batch 16", "spsc Words", Peer::Best, [1.6, 1.8]),
    gate("spsc", "batch 64", "spsc Words", Peer::Best, [0.75, 1.5]),
    gate("spsc", "batch 16", "spsc Words, commit each time", Peer::Row("spsc Words"), [0.91, 0.91]),
    gate("trip", "mean", "spsc Words", Peer::Row("rtrb"), [1.11, 1.11]),
    gate("trip", "mean", "spsc Words", Peer::Row("(a bare word each way)"), [0.8, 0.8]),
    gate("spmc", "1 cons, claim 1", "spmc Words", Peer::Best, [1.15, 0.0]),
    gate("spmc", "1 cons, claim 8", "spmc Words", Peer::Best, [3.5, 3.5]),
    gate("spmc", "2 cons, claim 8", "spmc Words", Peer::Best, [3.5, 3.5]),
    gate("spmc", "4 cons, claim 8", "spmc Words", Peer::Best, [3.5, 3.5]),
    gate("spmc", "4 cons, claim 32", "spmc Words", Peer::Best, [1.5, 1.5]),
    gate("mpsc", "2 prod, batch 1", "mpsc::rings Words", Peer::Best, [2.2, 2.2]),
    gate("mpsc", "4 prod, batch 1", "mpsc::rings Words", Peer::Best, [2.2, 2.2]),
    gate("mpsc", "2 prod, batch 1", "mpsc::shared Words", Peer::Best, [0.85, 0.85]),
    gate("mpsc", "4 prod, batch 1", "mpsc::shared Words", Peer::Best, [0.85, 0.85]),
    gate("mpsc", "2 prod, batch 16", "mpsc::rings Words", Peer::Best, [2.2, 2.2]),
    gate("mpsc", "4 prod, batch 16", "mpsc::rings Words", Peer::Best, [2.2, 2.2]),
];

/// A gate with what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Load, ours and peer, in words.
    pub(crate) what: String,
    /// Near or far cores.
    pub(crate) regime: Regime,
    /// How many times as fast ours had to be.
    pub(crate) wanted: f64,
    /// How many times as fast ours were.
    pub(crate) measured: f64,
}

impl Verdict {
    /// Whether it fails the run.
    pub(crate) fn has_failed(&self) -> bool {
        self.measured < TOLERANCE * self.wanted
    }

    /// In a word.
    pub(crate) fn word(&self) -> &'static str {
        if self.measured >= self.wanted {
            "met"
        } else if self.has_failed() {
            "FAILED"
        } else {
            "missed"
        }
    }
}

/// The verdicts on a group, for the regimes in which every contender has enough samples: the best
/// of those that happen to have some is not the best rival.
///
/// # Panics
/// If a gate names a load that the group does not have.
pub(crate) fn judge(group: &Group, samples: &Samples) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for gate in GATES.iter().filter(|gate| gate.group == group.name) {
        let load = group.loads.iter().position(|(label, _)| label == gate.load);
        let load = load.unwrap_or_else(|| panic!("no load {} in {}", gate.load, gate.group));
        for (regime, wanted) in Regime::BOTH.into_iter().zip(gate.times) {
            if wanted == 0.0 || !samples.are_enough(load, group.contenders.len(), regime) {
                continue;
            }
            let time = |wanted: &dyn Fn(&str, bool) -> bool| {
                let rows = group.contenders.iter().enumerate();
                rows.filter(|(_, row)| wanted(row.name, row.is_rival))
                    .filter_map(|(number, row)| {
                        Some((row.name, samples.median(load, number, regime)?))
                    })
                    .min_by(|one, other| one.1.total_cmp(&other.1))
            };
            let ours = time(&|name, _| name == gate.ours);
            let peer = match gate.peer {
                Peer::Best => time(&|_, is_rival| is_rival),
                Peer::Row(row) => time(&|name, _| name == row),
            };
            if let (Some((ours, own_ns)), Some((peer, peer_ns))) = (ours, peer) {
                let what = format!("{}, {}: {ours} to {peer}", gate.group, gate.load);
                verdicts.push(Verdict { what, regime, wanted, measured: peer_ns / own_ns });
            }
        }
    }
    verdicts
}
