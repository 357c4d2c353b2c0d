//! A line for each server, over a logarithmic axis.

use std::path::Path;

use plotters::prelude::*;

use super::frame::{Axis, FONT, GRID, INK, Outcome, SIZE, Words, colour, frame, log_steps, number};

/// The points of one server, in the order of `x`.
pub(crate) struct Line<'a> {
    pub(crate) server: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws `lines` into an SVG file. `marks` are what the horizontal axis shows, with the names of the values; where a
/// value comes to lie there is up to `place`. The vertical axis is logarithmic.
pub(crate) fn lines(
    path: &Path,
    words: &Words<'_>,
    marks: &[(f64, String)],
    place: fn(f64) -> f64,
    lines: &[Line<'_>],
) -> Outcome {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let servers: Vec<&str> = lines.iter().map(|line| line.server).collect();
    let area = frame(&root, words, &servers)?;
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let most = values().fold(1e-9, f64::max);
    let least = values().fold(most, f64::min);
    let heights: Vec<f64> = log_steps(least, most).into_iter().map(f64::log10).collect();
    let places: Vec<f64> = marks.iter().map(|(value, _)| place(*value)).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(()) };
    // So that no point lies on the edge.
    let margin = (last - first).max(0.1) * 0.03;
    let mut chart = ChartBuilder::on(&area)
        .margin_right(10)
        .margin_left(10)
        .margin_bottom(8)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(
            Axis { from: first - margin, to: last + margin, marks: places.clone() },
            Axis { from: heights[0], to: heights[heights.len() - 1], marks: heights },
        )?;
    let name = |at: &f64| {
        let found = places.iter().position(|place| (place - at).abs() < 1e-9);
        found.map(|at| marks[at].1.clone()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .x_desc(words.x)
        .y_desc(words.y)
        .x_label_formatter(&name)
        .y_label_formatter(&|at| number(10_f64.powf(*at)))
        .draw()?;
    // The first ones are drawn last, on top of the others.
    for (at, line) in lines.iter().enumerate().rev() {
        let colour = colour(line.server, at);
        let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (place(*x), y.max(1e-9).log10())).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    root.present()?;
    Ok(())
}
