//! Which stage begins when, over all pipelines of a run. Pure.

use std::collections::BTreeSet;

use bucket::StageResult;
use pipeline::{Order, Pipeline};

/// A stage of a run: the place of its pipeline among those that run, and its own in that pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StageId {
    /// Of the pipeline.
    pub(super) pipeline: usize,
    /// Of the stage in it.
    pub(super) stage: usize,
}

/// What became of a stage so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has not begun.
    Waiting,
    /// It runs.
    Running,
    /// It ended well.
    Passed,
    /// It did not.
    Failed,
    /// It was ended from outside: by a signal, or since another one failed.
    Stopped,
}

impl State {
    /// As it is recorded.
    pub(super) fn result(self) -> StageResult {
        match self {
            Self::Waiting => StageResult::Waiting,
            Self::Running => StageResult::Running,
            Self::Passed => StageResult::Passed,
            Self::Failed => StageResult::Failed,
            Self::Stopped => StageResult::Stopped,
        }
    }
}

/// All stages of a run.
#[derive(Debug)]
pub(super) struct Graph {
    orders: Vec<Order>,
    states: Vec<Vec<State>>,
    is_stopping: bool,
}

impl Graph {
    /// Of these pipelines, none of whose stages has begun.
    pub(super) fn of(pipelines: &[&Pipeline]) -> Self {
        Self {
            orders: pipelines.iter().map(|pipeline| pipeline.order.clone()).collect(),
            states: pipelines.iter().map(|pipeline| vec![State::Waiting; pipeline.stages.len()]).collect(),
            is_stopping: false,
        }
    }

    /// What became of a stage.
    pub(super) fn state(&self, id: StageId) -> State {
        self.states[id.pipeline][id.stage]
    }

    /// Begins the first stage, in the order of the file, before which all have passed, unless as many run as may at once.
    pub(super) fn begin(&mut self, jobs: usize) -> Option<StageId> {
        if self.is_stopping || self.running() >= jobs {
            return None;
        }
        let ready = |(pipeline, order): (usize, &Order)| {
            let states = &self.states[pipeline];
            let passed = |stage: &usize| states[*stage] == State::Passed;
            let is_ready = |stage: &usize| states[*stage] == State::Waiting && order.after(*stage).iter().all(passed);
            (0..states.len()).find(is_ready).map(|stage| StageId { pipeline, stage })
        };
        let found = self.orders.iter().enumerate().find_map(ready)?;
        self.states[found.pipeline][found.stage] = State::Running;
        Some(found)
    }

    /// What a stage ended as. After one that has not passed no other begins.
    pub(super) fn end(&mut self, id: StageId, state: State) {
        self.states[id.pipeline][id.stage] = state;
        self.is_stopping |= state != State::Passed;
    }

    /// No stage begins any more.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.states.iter().flatten().filter(|state| **state == State::Running).count()
    }

    /// Whether all have passed.
    pub(super) fn has_passed(&self) -> bool {
        self.states.iter().flatten().all(|state| *state == State::Passed)
    }

    /// Why a stage that has not begun never will: the first before it that did not pass, by its place in the pipeline; `None`
    /// if that is of another pipeline, or the run was stopped.
    pub(super) fn held_up_by(&self, id: StageId) -> Option<usize> {
        let before: BTreeSet<usize> = self.orders[id.pipeline].before(id.stage);
        before.into_iter().find(|stage| matches!(self.states[id.pipeline][*stage], State::Failed | State::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use pipeline::{Action, Known, Leads, read};
    use proptest::prelude::*;

    use super::*;

    /// A pipeline of stages with these names, and this `execution`.
    fn pipeline(names: &[String], execution: &str) -> Pipeline {
        let stages: Vec<String> = names.iter().map(|name| format!("{{ name: {name}, exports: {{ x: y }} }}")).collect();
        let config = format!("pipelines: {{ web: {{ execution: {execution}, stages: [{}] }} }}", stages.join(", "));
        let known = Known {
            project: None,
            packages: &[],
            chosen: &[],
            allowed: &Action::ALL,
            require_trial: false,
            leads: &|_| Ok(Leads::Directory),
            refused: &|_| Vec::new(),
        };
        read(config.as_bytes(), &known, |_| Err("is missing".to_owned())).unwrap().pipelines.pipelines.remove(0)
    }

    fn letters(names: &str) -> Vec<String> {
        names.chars().map(String::from).collect()
    }

    #[test]
    fn a_stage_begins_as_soon_as_all_before_it_have_passed() {
        let names = letters("abcdefxy");
        let web = pipeline(&names, "[[a,b,c,d,e,f],[x,d,y,f]]");
        let mut graph = Graph::of(&[&web]);
        let begin = |graph: &mut Graph| {
            std::iter::from_fn(|| graph.begin(8)).map(|id| names[id.stage].as_str()).collect::<String>()
        };
        let at = |name: char| StageId { pipeline: 0, stage: names.iter().position(|n| n.starts_with(name)).unwrap() };
        assert_eq!(begin(&mut graph), "ax");
        for (ends, begins) in [("a", "b"), ("x", ""), ("b", "c"), ("c", "d"), ("d", "ey"), ("y", ""), ("e", "f")] {
            graph.end(at(ends.chars().next().unwrap()), State::Passed);
            assert_eq!(begin(&mut graph), begins, "after {ends}");
        }
        assert!(!graph.has_passed());
        graph.end(at('f'), State::Passed);
        assert!(graph.has_passed());
    }

    #[test]
    fn after_a_failure_nothing_begins_and_what_runs_goes_on() {
        let names = letters("abc");
        let web = pipeline(&names, "[[a,c],[b,c]]");
        let mut graph = Graph::of(&[&web, &web]);
        let id = |pipeline, stage| StageId { pipeline, stage };
        assert_eq!((graph.begin(2), graph.begin(2), graph.begin(2)), (Some(id(0, 0)), Some(id(0, 1)), None));
        graph.end(id(0, 1), State::Failed);
        assert_eq!((graph.begin(2), graph.running(), graph.state(id(0, 0))), (None, 1, State::Running));
        assert_eq!((graph.held_up_by(id(0, 2)), graph.held_up_by(id(1, 2))), (Some(1), None));
    }

    proptest! {
        /// In every graph, with any number of jobs and in whichever order they end, each stage begins after all before it have
        /// passed, never more run than may, and all run.
        #[test]
        fn in_every_graph_each_stage_begins_after_all_before_it(
            chains in prop::collection::vec(prop::collection::btree_set(0_u8..12, 1..6), 1..8),
            jobs in 1_usize..5,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 12),
        ) {
            let used: BTreeSet<u8> = chains.iter().flatten().copied().collect();
            let names: Vec<String> = used.iter().map(|n| format!("s{n}")).collect();
            let lists: Vec<String> = chains
                .iter()
                .map(|chain| format!("[{}]", chain.iter().map(|n| format!("s{n}")).collect::<Vec<_>>().join(",")))
                .collect();
            let web = pipeline(&names, &format!("[{}]", lists.join(",")));
            let mut graph = Graph::of(&[&web]);
            let (mut running, mut passed) = (Vec::new(), BTreeSet::new());
            for pick in picks.iter().take(names.len()) {
                while let Some(id) = graph.begin(jobs) {
                    prop_assert!(web.order.before(id.stage).is_subset(&passed), "{id:?} began too early");
                    running.push(id);
                }
                prop_assert!((1..=jobs).contains(&running.len()));
                let ends = running.remove(pick.index(running.len()));
                graph.end(ends, State::Passed);
                passed.insert(ends.stage);
            }
            prop_assert!(graph.has_passed());
        }
    }
}
