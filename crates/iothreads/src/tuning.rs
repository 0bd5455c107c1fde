//! Constants of the scaling policy: thresholds, periods and back-offs. Pure data; any thread.
//!
//! Source: where a constant is Valkey's, it says so; the others come from the simulation, whose
//! table the README has.

use std::time::Duration;

/// Constants of the policy. The defaults are the product; tests change single ones.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Tuning {
    /// Useful main-thread time above which the first worker starts, in thousandths. Valkey: 300.
    pub ignite_permille: u32,
    /// Useful time of all threads together under which the last worker stops, in thousandths of
    /// one CPU. Under [`Tuning::ignite_permille`] by a margin, or a constant load would flip.
    pub quench_permille: u32,
    /// Mean jobs offered per loop turn from which the first worker starts where the system does
    /// not tell CPU time, as the event count of Valkey 8.
    pub ignite_jobs_per_turn: u32,
    /// Idle CPU time without which nothing grows, in thousandths of one CPU.
    pub spare_permille_min: u32,
    /// Useful time per active worker from which the workers count as saturated, in thousandths.
    pub saturated_permille: u32,
    /// Age of the oldest waiting job from which the workers count as saturated.
    pub saturated_age: Duration,
    /// Saturated samples in a row that start a growth out of the steady state.
    pub saturated_samples: u32,
    /// Useful time per worker that shrinking aims at, in thousandths.
    pub load_permille: u32,
    /// Sampling period while no worker is active. Valkey: 50 ms.
    pub period_inactive: Duration,
    /// Sampling period while workers are active.
    pub period_active: Duration,
    /// Sampling period in a trial; also the cool-down after growing in it.
    pub period_trial: Duration,
    /// How long after its last growth a trial is judged.
    pub judge_after: Duration,
    /// How soon a trial that plainly fails is cut short.
    pub cut_after: Duration,
    /// Rise of completed work that proves a trial, in thousandths.
    pub gain_permille: u32,
    /// Fall of the completed work that no noise explains, in thousandths; widened for small counts.
    pub loss_permille: u32,
    /// Main-thread CPU per unit of work, against the time before, that proves a trial, in
    /// thousandths.
    pub cost_permille: u32,
    /// Time that the main thread was runnable without a CPU from which workers are taken away, in
    /// thousandths.
    pub starved_permille: u32,
    /// First back-off after a regret; four times as long at each further one.
    pub back_off_min: Duration,
    /// Longest back-off.
    pub back_off_max: Duration,
    /// How long idleness must last before workers are taken away; doubles when that proves wrong.
    pub patience_min: Duration,
    /// Longest such time.
    pub patience_max: Duration,
    /// Longest spinning of a worker without work, when there are CPUs to spare.
    pub spin: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            ignite_permille: 300,
            quench_permille: 200,
            ignite_jobs_per_turn: 4,
            spare_permille_min: 250,
            saturated_permille: 850,
            saturated_age: Duration::from_millis(1),
            saturated_samples: 3,
            load_permille: 700,
            period_inactive: Duration::from_millis(50),
            period_active: Duration::from_millis(10),
            period_trial: Duration::from_millis(5),
            judge_after: Duration::from_millis(60),
            cut_after: Duration::from_millis(20),
            gain_permille: 40,
            loss_permille: 30,
            cost_permille: 850,
            starved_permille: 100,
            back_off_min: Duration::from_secs(3),
            back_off_max: Duration::from_secs(60),
            patience_min: Duration::from_secs(1),
            patience_max: Duration::from_secs(60),
            // A wake-up takes 15 to 18 us here: waiting as long as that is at most twice the best.
            spin: Duration::from_micros(20),
        }
    }
}
