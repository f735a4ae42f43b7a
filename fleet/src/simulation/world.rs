//! A simulated fleet, its clock, and who drives a rollout in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use bucket::{
    AppName, Bucket, PushId, PushKind, ReleaseMetadata, ReleaseName, Rollout, ServerName, SimulatedMachine, SourceFile,
    Timestamp,
};
use futures_util::{StreamExt, stream};
use jiff::SignedDuration;

use super::{Chance, agent::Agent};
use crate::{
    identity::{Identity, Origin},
    operation::{Intent, Operator, carry_out},
    poke::PokeSettings,
    policy::Policy,
    rollout::{
        drive::{Driver, Step, begin},
        plan::{Subject, plan},
        read::{Around, Reader},
        waves::Candidate,
    },
    server::{self, Server},
    wish::Wish,
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// A simulated fleet, all of whose servers have one app.
#[derive(Debug)]
pub struct World {
    directory: PathBuf,
    machine: SimulatedMachine,
    bucket: Bucket,
    policy: Arc<Policy>,
    agents: BTreeMap<ServerName, Agent>,
    wakes: BTreeSet<(Timestamp, ServerName)>,
    chance: Chance,
    /// What ran at the beginning, what is rolled out, and what somebody else pushes.
    releases: [ReleaseName; 3],
}

/// Who drives a rollout in a simulation, on a machine of their own.
#[derive(Debug)]
pub struct SimulatedDriver {
    driver: Driver,
    machine: SimulatedMachine,
    bucket: Bucket,
    reader: Reader,
    /// Whether it goes on however many servers fail, which no driver may.
    #[cfg(test)]
    pub(super) ignores_stop_at: bool,
    /// Whether it saw at its last look that the rollout is to be undone.
    #[cfg(test)]
    pub(super) undoes: bool,
}

impl World {
    /// A fleet in an empty directory. All of its servers run the first release when it begins.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub async fn new(directory: &Path, seed: u64, servers: &[ServerName], policy: Policy) -> Result<Self> {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().context("the simulation has no beginning")?;
        let (machine, mut chance) = (SimulatedMachine::new(start), Chance::new(seed));
        let bucket = Bucket::open_simulated(directory, &machine).await?;
        bucket.mark().await?;
        let mut releases = Vec::new();
        for (hour, letter) in [(21, 'a'), (22, 'b'), (23, 'c')] {
            releases.push(upload(&bucket, directory, hour, letter).await?);
        }
        let releases: [ReleaseName; 3] =
            releases.try_into().map_err(|_| anyhow::anyhow!("there are three releases"))?;
        let mut world = Self {
            directory: directory.to_owned(),
            machine,
            bucket,
            policy: Arc::new(policy),
            agents: BTreeMap::new(),
            wakes: BTreeSet::new(),
            chance: chance.clone(),
            releases,
        };
        let first = world.releases[0].clone();
        world.write(servers, "setup", |_| None, &first).await?;
        for server in servers {
            let mut agent = Agent::new(server.clone(), &first, start);
            agent.wake(&world.bucket, start, &mut chance).await?;
            let first_poll = SignedDuration::from_secs(1 + i64::try_from(chance.below(60)).unwrap_or(0));
            agent.turn(true, start + first_poll);
            world.wakes.extend(agent.next().map(|at| (at, server.clone())));
            world.agents.insert(server.clone(), agent);
        }
        world.chance = chance;
        Ok(world)
    }

    /// The bucket, as operators see it.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The rules.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.machine.now()
    }

    /// Random numbers, decided by the seed.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// All of its servers.
    pub fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.agents.keys()
    }

    /// What an agent is and has said.
    pub fn agent(&self, server: &ServerName) -> Option<&Agent> {
        self.agents.get(server)
    }

    /// The release that is rolled out.
    pub fn release(&self) -> &ReleaseName {
        &self.releases[1]
    }

    /// Changes an agent.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn change(&mut self, server: &ServerName, change: impl FnOnce(&mut Agent, Timestamp)) -> Result<()> {
        let now = self.now();
        let agent = self.agents.get_mut(server).with_context(|| format!("there is no server `{server}` here"))?;
        self.wakes.retain(|(_, name)| name != server);
        change(agent, now);
        self.wakes.extend(agent.next().map(|at| (at, server.clone())));
        Ok(())
    }

    /// Lets time pass until then. `tell` is told what agents report, when they do.
    ///
    /// # Errors
    /// When an agent can't read or write.
    pub async fn pass(&mut self, until: Timestamp, mut tell: impl FnMut(Timestamp, &ServerName, &Agent)) -> Result<()> {
        while let Some((at, name)) = self.wakes.first().cloned().filter(|(at, _)| *at <= until) {
            self.wakes.pop_first();
            self.machine.set(at.max(self.now()));
            let Some(agent) = self.agents.get_mut(&name) else { continue };
            if agent.wake(&self.bucket, at, &mut self.chance).await? {
                tell(at, &name, agent);
            }
            self.wakes.extend(agent.next().map(|next| (next.max(at), name)));
        }
        self.machine.set(until.max(self.now()));
        Ok(())
    }

    /// Begins a rollout to all servers.
    ///
    /// # Errors
    /// When they can't be divided so, or it can't be recorded.
    pub async fn begin(&self, wish: &Wish) -> Result<Rollout> {
        let names: Vec<ServerName> = self.agents.keys().cloned().collect();
        let read = stream::iter(names).map(async |name| server::read_dated(&self.bucket, &name).await);
        let fleet: Vec<Server> = read.buffered(AT_ONCE).collect().await;
        let app = self.release().app();
        let candidates: Vec<Candidate> =
            fleet.iter().map(|server| Candidate { server, from: server.desired(app) }).collect();
        let (id, who) = (PushId::random(), who("dev"));
        let subject =
            Subject { id: &id, release: self.release(), who: &who, why: "a simulation", held: false, channel: None };
        let rollout = plan(subject, wish, &candidates, &fleet.iter(), &self.policy, self.bucket.now())?;
        begin(&self.bucket, &rollout).await?;
        Ok(rollout)
    }

    /// Somebody else pushes another release to a server.
    ///
    /// # Errors
    /// When that can't be written.
    pub async fn push(&self, server: &ServerName) -> Result<()> {
        let read = server::read(&self.bucket, server).await;
        let from = read.desired(self.release().app()).cloned();
        self.write(std::slice::from_ref(server), "ops", |_| from.clone(), &self.releases[2]).await
    }

    async fn write(
        &self,
        servers: &[ServerName],
        by: &str,
        from: impl Fn(&ServerName) -> Option<ReleaseName>,
        to: &ReleaseName,
    ) -> Result<()> {
        let intent = |server: &ServerName| Intent {
            server: server.clone(),
            app: to.app().clone(),
            from: from(server),
            to: Some(to.clone()),
            kind: PushKind::Deploy,
        };
        let intents = servers.iter().map(|server| (intent(server), None)).collect();
        let operator = Operator {
            who: who(by),
            reason: "a simulation".to_owned(),
            policy: Arc::default(),
            poke: PokeSettings::None,
            held: false,
            without_waves: false,
            channel: None,
        };
        for result in carry_out(&self.bucket, &operator, intents, |_, _| ()).await {
            result.result.with_context(|| format!("could not push to `{}`", result.intent.server))?;
        }
        Ok(())
    }

    /// Somebody who drives rollouts, on a machine whose clock is ahead by so much.
    ///
    /// # Errors
    /// When the bucket can't be opened.
    pub async fn driver(&self, name: &str, ahead: SignedDuration) -> Result<SimulatedDriver> {
        let machine = self.machine.another(ahead);
        let bucket = Bucket::open_simulated(&self.directory, &machine).await?;
        let driver =
            Driver { name: name.to_owned(), policy: self.policy.clone(), poke: PokeSettings::None, stop: None };
        Ok(SimulatedDriver {
            driver,
            machine,
            bucket,
            reader: Reader::default(),
            #[cfg(test)]
            ignores_stop_at: false,
            #[cfg(test)]
            undoes: false,
        })
    }
}

impl SimulatedDriver {
    /// Looks at a rollout, and does what there is to do.
    ///
    /// # Errors
    /// When something can't be read or written, as when its machine has died.
    pub async fn look(&mut self, id: &PushId) -> Result<Step> {
        let read = self.bucket.rollout(id).await?;
        let (generation, rollout) = read.with_context(|| format!("there is no rollout {id}"))?;
        #[cfg(test)]
        let rollout = self.looked_at(rollout);
        let Around { servers, held, halted } = self.reader.around(&self.bucket, &rollout).await?;
        self.driver.step(&self.bucket, (generation, rollout), servers, &held, halted).await
    }

    /// The rollout as it takes it to be.
    #[cfg(test)]
    fn looked_at(&mut self, mut rollout: Rollout) -> Rollout {
        self.undoes = rollout.stage == bucket::RolloutStage::Undoing;
        if self.ignores_stop_at {
            rollout.rules.stop_at = usize::MAX;
        }
        rollout
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &SimulatedMachine {
        &self.machine
    }
}

/// Somebody on a machine of the simulation.
pub fn who(name: &str) -> Identity {
    Identity { name: name.to_owned(), origin: Origin::Local }
}

async fn upload(bucket: &Bucket, directory: &Path, hour: u8, letter: char) -> Result<ReleaseName> {
    let commit = letter.to_string().repeat(40);
    let name = ReleaseName::from_stem(&format!("web:dev@build-1:2025-12-31T{hour:02}:00:00Z:{commit}"))?;
    let app: &AppName = name.app();
    let metadata = ReleaseMetadata {
        dirty: false,
        note: String::new(),
        services: vec![format!("{app}.service")],
        sha256: [0; 32].into(),
        size: 3,
        package: app.as_str().parse()?,
        version: "1".to_owned(),
        architecture: "all".parse()?,
        repo: String::new(),
        branch: String::new(),
        made_by: None,
    };
    let deb = directory.join(".deb");
    std::fs::write(&deb, "deb").context("could not write a simulated package")?;
    let uploaded = bucket.upload_release(&name, &SourceFile::read(&deb)?, &metadata, &|_| ()).await;
    std::fs::remove_file(&deb).context("could not remove a simulated package")?;
    uploaded.context("could not upload a simulated release")?;
    Ok(name)
}
