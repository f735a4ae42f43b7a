//! Rollouts on a simulated fleet: the plan, what is decided and every write are those of a real one, on a directory as a bucket.
//! Only agents and the clock are simulated.
//!
//! - [`agent`]: an agent that does with a release what it is told
//! - [`world`]: the fleet, its clock, and who drives a rollout in it

pub mod agent;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
pub mod world;

/// Random numbers that a seed decides (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Whether something happens that does so once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
