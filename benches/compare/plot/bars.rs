//! Groups of bars, a bar in each for a server.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::frame::{Axis, FONT, INK, SIZE, Words, axes, colour, frame, log_steps, number, steps};
use crate::Result;

/// The bars of one server, one for each group; `None` where it was not measured.
pub(super) struct Bars<'a> {
    pub(super) server: &'a str,
    pub(super) values: Vec<Option<f64>>,
}

/// How high a bar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// For what differs by orders of magnitude: each bar has its figure on it.
    Logarithmic,
}

/// Of a group's width, what is left free between groups.
const GAP: f64 = 0.2;

/// Draws `bars` by `groups` into an SVG file; nothing where there are none.
pub(super) fn bars(path: &Path, words: &Words<'_>, groups: &[String], scale: Scale, bars: &[Bars<'_>]) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let servers: Vec<&str> = bars.iter().map(|bars| bars.server).collect();
    let area = frame(&root, words, &servers)?;
    let values = || bars.iter().flat_map(|bars| bars.values.iter().flatten().copied());
    let most = values().fold(0.0, f64::max);
    let least = values().fold(f64::INFINITY, f64::min).min(most);
    let marks = match scale {
        Scale::Linear => steps(most),
        // The shortest bar has a length, too, and the figure on the longest has room.
        Scale::Logarithmic => log_steps(least / 2.0, most * 1.5),
    };
    let height = |value: f64| match scale {
        Scale::Linear => value,
        Scale::Logarithmic => value.max(marks[0]).log10(),
    };
    let heights: Vec<f64> = marks.iter().map(|mark| height(*mark)).collect();
    let (bottom, top) = (heights[0], heights[heights.len() - 1]);
    let middles = (0..groups.len()).map(|at| at as f64 + 0.5).collect();
    let label = |at: &f64| match scale {
        Scale::Linear => number(*at),
        Scale::Logarithmic => number(10_f64.powf(*at)),
    };
    let group = |at: &f64| groups.get(*at as usize).cloned().unwrap_or_default();
    let x = Axis { from: 0.0, to: groups.len() as f64, marks: middles };
    let y = Axis { from: bottom, to: top, marks: heights };
    let mut chart = axes(&area, words, (x, &group), (y, &label), false)?;
    let width = (1.0 - GAP) / bars.len().max(1) as f64;
    for (at, server) in bars.iter().enumerate() {
        let colour = colour(server.server);
        for (group, value) in server.values.iter().enumerate() {
            let Some(value) = *value else { continue };
            let left = group as f64 + GAP / 2.0 + at as f64 * width;
            let corners = [(left + width * 0.06, bottom), (left + width * 0.94, height(value))];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            if scale == Scale::Logarithmic {
                let style = (FONT, 13).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Bottom));
                chart.draw_series([Text::new(number(value), (left + width / 2.0, height(value)), style)])?;
            }
        }
    }
    root.present()?;
    Ok(())
}
