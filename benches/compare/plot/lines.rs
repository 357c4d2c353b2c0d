//! A line for each server.

use std::path::Path;

use plotters::prelude::*;

use super::frame::{Axis, SIZE, Words, axes, colour, frame, log_steps, number};
use crate::Result;

/// The points of one server, from left to right.
pub(super) struct Line<'a> {
    pub(super) server: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Where the horizontal axis has a mark, and what it is called.
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) name: String,
}

/// Draws `lines` into an SVG file; nothing where there are none. The vertical axis is logarithmic.
pub(super) fn lines(path: &Path, words: &Words<'_>, marks: &[Mark], lines: &[Line<'_>]) -> Result<()> {
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return Ok(()) };
    let (first, last) = (first.at, last.at);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let servers: Vec<&str> = lines.iter().map(|line| line.server).collect();
    let area = frame(&root, words, &servers)?;
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let most = values().fold(1e-9, f64::max);
    let least = values().fold(most, f64::min);
    let heights: Vec<f64> = log_steps(least, most).into_iter().map(f64::log10).collect();
    // So that no point lies on the edge.
    let margin = (last - first).max(0.1) * 0.03;
    let x = Axis { from: first - margin, to: last + margin, marks: marks.iter().map(|mark| mark.at).collect() };
    let y = Axis { from: heights[0], to: heights[heights.len() - 1], marks: heights };
    let name = |at: &f64| marks.iter().find(|mark| mark.at == *at).map_or(String::new(), |mark| mark.name.clone());
    let mut chart = axes(&area, words, (x, &name), (y, &|at| number(10_f64.powf(*at))), true)?;
    // The first ones are drawn last, on top of the others.
    for line in lines.iter().rev() {
        let colour = colour(line.server);
        let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (*x, y.max(1e-9).log10())).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    root.present()?;
    Ok(())
}
