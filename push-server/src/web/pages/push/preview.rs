//! How a push would go out, before it is sent: the waves of the form of a plan, and that form again, as it was.

use console::count;
use maud::{Markup, html};

use super::Form;
use crate::web::{pages::plan::waves::table, waves::Prepared};

/// The page.
pub(super) fn page(form: &Form, prepared: &Prepared) -> Markup {
    html! {
        h1 { "Waves of this push" }
        @match prepared {
            Prepared::InWaves(prepared) => (table(&prepared.division)),
            Prepared::AtOnce { .. } => p.lead { (count(form.intents.len(), "server")) " would be written at once." },
        }
        form.push method="post" action="/push" {
            @for (name, value) in form.params.pairs() { input type="hidden" name=(name) value=(value); }
            p.help { "Nothing is written yet. Your browser's way back leads to the plan." }
            div.actions { button.primary type="submit" { "Push to " (count(form.intents.len(), "server")) } }
        }
    }
}
