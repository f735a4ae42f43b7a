//! What is said in the end of a run: a table for people, and a file for whatever shows results of tests.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use bucket::{Run, StageResult, StageRun};
use console::{Cell, Color, Table, duration, one_line, print};

/// Prints the table: stage, result, time, why.
pub(crate) fn show(run: &Run) -> Result<()> {
    let mut table = Table::new(&["STAGE", "RESULT", "TIME", "WHY"]);
    for (pipeline, stage) in stages(run) {
        let color = match stage.result {
            StageResult::Passed => Color::Good,
            StageResult::Failed => Color::Bad,
            _ => Color::Notice,
        };
        table.row([
            Cell::new(format!("{pipeline}/{}", stage.name), Color::Plain),
            Cell::new(stage.result.as_str(), color),
            Cell::new(took(stage).map_or_else(|| "-".to_owned(), seconds), Color::Plain),
            Cell::new(one_line(&stage.why), Color::Plain),
        ]);
    }
    print(&table.show())?;
    for release in run.pipelines.iter().flat_map(|pipeline| &pipeline.releases) {
        console::print_line(&release.release)?;
    }
    for image in run.pipelines.iter().flat_map(|pipeline| &pipeline.images) {
        console::print_line(format_args!("{}:{}@sha256:{}", image.name, image.tag, image.digest))?;
    }
    Ok(())
}

/// Writes what became of each stage as `JUnit` does of tests: a suite for each pipeline.
pub(crate) fn write_junit(run: &Run, path: &Path) -> Result<()> {
    fs::write(path, junit(run)).with_context(|| format!("could not write `{}`", path.display()))
}

fn junit(run: &Run) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for pipeline in &run.pipelines {
        let count =
            |results: &[StageResult]| pipeline.stages.iter().filter(|stage| results.contains(&stage.result)).count();
        let name = &pipeline.name;
        let failed = count(&[StageResult::Failed, StageResult::Stopped]);
        let (all, skipped) = (pipeline.stages.len(), count(&[StageResult::Skipped]));
        let time: f64 = pipeline.stages.iter().filter_map(took).sum();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{all}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" \
             time=\"{time:.3}\" timestamp=\"{}\">",
            run.began
        );
        for stage in &pipeline.stages {
            let time = took(stage).unwrap_or_default();
            let _ = write!(xml, "    <testcase classname=\"{name}\" name=\"{}\" time=\"{time:.3}\"", stage.name);
            let why = escaped(&stage.why);
            let _ = match stage.result {
                StageResult::Passed => writeln!(xml, "/>"),
                StageResult::Skipped => writeln!(xml, "><skipped message=\"{why}\"/></testcase>"),
                _ => writeln!(xml, "><failure message=\"{why}\"/></testcase>"),
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// A text as the value of an attribute (XML 1.0, sections 2.2 and 2.4): what no XML may have is shown by its number.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in console::one_line(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

fn stages(run: &Run) -> impl Iterator<Item = (&bucket::PipelineName, &StageRun)> {
    run.pipelines.iter().flat_map(|pipeline| pipeline.stages.iter().map(|stage| (&pipeline.name, stage)))
}

/// How long a stage took, in seconds.
fn took(stage: &StageRun) -> Option<f64> {
    let (began, ended) = (stage.began?, stage.ended?);
    Some(ended.duration_since(began).as_secs_f64().max(0.0))
}

fn seconds(took: f64) -> String {
    if took < 60.0 { format!("{took:.1}s") } else { duration::show(std::time::Duration::from_secs_f64(took.round())) }
}
