//! What all pictures have in common: size, colours, letters, and the legend beside the data.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use crate::Result;
use crate::programs::{DAEMON, FLOOR, LOGGING, TOKIO};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const SIZE: (u32, u32) = (920, 480);
pub(super) const FONT: &str = "sans-serif";
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

const LETTERS: u32 = 14;
const FAINT: RGBColor = RGBColor(0x77, 0x77, 0x77);

const TITLE: u32 = 19;
const SUBTITLE: u32 = 13;
const SMALL: u32 = 11;

/// The heights above and below the data, and the width beside it.
const HEAD: u32 = 66;
const FOOT: u32 = 26;
const LEGEND_WIDTH: u32 = 185;
const LEGEND_LINE: i32 = 22;

/// What is written around the data.
pub(super) struct Words<'a> {
    pub(super) title: &'a str,
    /// Under which conditions it was measured.
    pub(super) subtitle: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Where and when.
    pub(super) foot: &'a str,
}

/// A server has its colour in all pictures, ours and the floor the strongest ones.
pub(super) fn colour(server: &str) -> RGBColor {
    match server {
        DAEMON => RGBColor(0x00, 0x5f, 0xb8),
        LOGGING => RGBColor(0x85, 0xb8, 0xe8),
        FLOOR => RGBColor(0x33, 0x33, 0x33),
        TOKIO => RGBColor(0xe6, 0x8a, 0x00),
        "threads" => RGBColor(0x2c, 0x8c, 0x3c),
        "asyncio" => RGBColor(0xb8, 0x9b, 0x00),
        "uvloop" => RGBColor(0x7a, 0x5c, 0x3a),
        "go" => RGBColor(0x00, 0xa6, 0xb0),
        "node" => RGBColor(0x9b, 0xc9, 0x3c),
        "ncat" | "ncat --chat" => RGBColor(0xa8, 0x6f, 0xc9),
        "socat" => RGBColor(0xe3, 0x8f, 0xb8),
        "redis" => RGBColor(0xd0, 0x2c, 0x2c),
        _ => RGBColor(0x99, 0x99, 0x99),
    }
}

/// Paints the ground, the words around the data, and the names of the servers at the right; returns what is left for
/// the data.
pub(super) fn frame<'a>(root: &Area<'a>, words: &Words<'_>, servers: &[&str]) -> Result<Area<'a>> {
    root.fill(&WHITE)?;
    let write = |text: &str, size: u32, colour: &RGBColor, at: (i32, i32)| {
        root.draw_text(text, &(FONT, size).into_text_style(root).color(colour), at)
    };
    let (width, height) = (SIZE.0 as i32, SIZE.1 as i32);
    write(words.title, TITLE, &INK, (20, 10))?;
    write(words.subtitle, SUBTITLE, &INK, (20, 36))?;
    write(words.foot, SMALL, &FAINT, (20, height - 18))?;
    let left = width - LEGEND_WIDTH as i32 + 10;
    for (at, server) in servers.iter().enumerate() {
        let top = HEAD as i32 + at as i32 * LEGEND_LINE;
        root.draw(&Rectangle::new([(left, top), (left + 14, top + 14)], colour(server).filled()))?;
        write(server, LETTERS, &INK, (left + 22, top))?;
    }
    Ok(root.margin(HEAD, FOOT, 10, LEGEND_WIDTH))
}

pub(super) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// Draws the axes beside and below the data, with what `x_label` and `y_label` say of their marks, and the grid.
pub(super) fn axes<'a>(
    area: &Area<'a>,
    words: &Words<'_>,
    (x, x_label): (Axis, &dyn Fn(&f64) -> String),
    (y, y_label): (Axis, &dyn Fn(&f64) -> String),
    has_columns: bool,
) -> Result<Chart<'a>> {
    let mut chart = ChartBuilder::on(area).x_label_area_size(50).y_label_area_size(72).build_cartesian_2d(x, y)?;
    let mut mesh = chart.configure_mesh();
    if !has_columns {
        mesh.disable_x_mesh();
    }
    mesh.bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style((FONT, LETTERS).into_font().color(&INK))
        .axis_desc_style((FONT, LETTERS).into_font().color(&INK))
        .x_desc(words.x)
        .y_desc(words.y)
        .x_label_formatter(x_label)
        .y_label_formatter(y_label)
        .draw()?;
    Ok(chart)
}

/// A number as an axis or a bar shows it: three digits at most.
pub(super) fn number(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{} G", three_digits(value / 1e9)),
        _ if value >= 1e6 => format!("{} M", three_digits(value / 1e6)),
        _ if value >= 1e4 => format!("{} k", three_digits(value / 1e3)),
        _ => three_digits(value),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        _ if value >= 99.5 => format!("{value:.0}"),
        _ if value >= 9.95 => trimmed(&format!("{value:.1}")),
        _ => trimmed(&format!("{value:.2}")),
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where a linear axis from zero to at least `most` has its marks, about six of them.
pub(super) fn steps(most: f64) -> Vec<f64> {
    let most = if most > 0.0 { most } else { 1.0 };
    let decade = 10_f64.powf((most / 6.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * decade).find(|step| step * 6.0 >= most);
    let step = step.unwrap_or(10.0 * decade);
    (0..=(most / step).ceil() as usize).map(|at| at as f64 * step).collect()
}

/// Where the logarithmic axis from `least` to `most` has its marks: 1, 2, 5, 10 and so on, or only the powers
/// of ten if it is long; the first mark is not above `least` and the last not below `most`.
pub(super) fn log_steps(least: f64, most: f64) -> Vec<f64> {
    let (least, most) = (least.max(1e-9), most.max(1e-9));
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let factors: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        (first..=last).flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade))).collect();
    let from = all.iter().rposition(|mark| *mark <= least).unwrap_or(0);
    let to = all.iter().position(|mark| *mark >= most).unwrap_or(all.len() - 1);
    all[from..=to.max(from + 1).min(all.len() - 1)].to_vec()
}

/// A linear axis with marks where they are wanted.
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + ((value - self.from) / (self.to - self.from) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}
