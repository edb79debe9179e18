// SPDX-License-Identifier: GPL-2.0

//! A plot for each family of operations and each setting, and one for each operation that tells how long each call
//! took.

use std::path::Path;

use plotters::prelude::*;

use crate::record::{Record, Setting, Side};

const NATIVE: RGBColor = RGBColor(110, 110, 120);
const MODULE: RGBColor = RGBColor(206, 92, 0);
const ROW: u32 = 34;
const MARGIN: u32 = 90;
const WIDTH: u32 = 960;
const NAMES: i32 = 330;

/// Draws the module's figures by the original's: the bar's end is the ratio, the line through it where
/// it may be, and the line at 1 the original. `records` are of one family and setting, and are left
/// out if there is nothing to compare them with. Tells whether there was anything to draw.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(
    path: &Path,
    family: &str,
    setting: Setting,
    records: &[&Record],
) -> Result<bool, Box<dyn std::error::Error>> {
    let rows: Vec<_> = records
        .iter()
        .filter_map(|record| Some((*record, record.ratio?)))
        .collect();
    if rows.is_empty() {
        return Ok(false);
    }
    let longest = rows
        .iter()
        .fold(1.2_f64, |longest, (_, ratio)| longest.max(*ratio))
        * 1.1;
    let height = MARGIN + ROW * rows.len() as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{family}, {}: the module by the original", setting.name());
    area.draw(&Text::new(title, (12, 10), ("sans-serif", 20)))?;
    let scale = f64::from(WIDTH as i32 - NAMES - 90) / longest;
    let x = |ratio: f64| NAMES + (ratio * scale) as i32;
    let style = |color: RGBColor| ("sans-serif", 13).into_font().color(&color);
    for (number, (record, ratio)) in rows.iter().enumerate() {
        let y = 48 + (number as u32 * ROW) as i32;
        let name = record.name.split_once('/').map_or("", |(_, name)| name);
        area.draw(&Text::new(name, (12, y + 4), style(BLACK)))?;
        area.draw(&Rectangle::new(
            [(x(0.0), y), (x(*ratio), y + 20)],
            MODULE.filled(),
        ))?;
        if let Some([low, high]) = record.ratio_interval {
            area.draw(&PathElement::new(
                [(x(low), y + 10), (x(high.min(longest)), y + 10)],
                BLACK.stroke_width(2),
            ))?;
        }
        let mut label = format!("{ratio:.2}");
        if let Some(above) = record.above_floor_ratio {
            label += &format!(" ({above:.2} above the floor)");
        } else if record.more_is_better {
            label += " (more is better)";
        }
        area.draw(&Text::new(label, (x(*ratio) + 6, y + 4), style(BLACK)))?;
    }
    let bottom = height as i32 - 30;
    area.draw(&PathElement::new(
        [(x(1.0), 40), (x(1.0), bottom)],
        NATIVE.stroke_width(2),
    ))?;
    area.draw(&Text::new(
        "the original",
        (x(1.0) - 34, bottom + 6),
        style(NATIVE),
    ))?;
    area.present()?;
    Ok(true)
}

/// Draws how long the writes of a crowd took: the share of the original's and of the module's in each class of
/// time, which is an eighth of a power of two wide.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw_latencies(
    path: &Path,
    name: &str,
    record: &Record,
) -> Result<(), Box<dyn std::error::Error>> {
    let sides = [
        (Side::Native, "the original", NATIVE),
        (Side::Module, "the module", MODULE),
    ];
    let shares: Vec<_> = sides
        .iter()
        .filter_map(|(side, name, color)| {
            Some((shares(record.latencies.get(side)?), *name, *color))
        })
        .collect();
    let (mut first, mut last, mut most) = (f64::MAX, 0.0_f64, 0.0_f64);
    for (time, share) in shares.iter().flat_map(|(points, ..)| points) {
        (first, last, most) = (first.min(*time), last.max(*time), most.max(*share));
    }
    if shares.is_empty() {
        return Ok(());
    }
    let area = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let calls = record.latencies.values().flatten();
    let calls: u64 = calls.map(|(_, count)| count).sum();
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!("{name}: how long a write of 64 KiB takes, {calls} of them"),
            ("sans-serif", 20),
        )
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(60)
        .build_cartesian_2d((first..last * 1.1).log_scale(), 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("microseconds")
        .y_desc("percent of the writes")
        .x_label_formatter(&|time| format!("{time:.0}"))
        .draw()?;
    for (points, name, color) in &shares {
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(NATIVE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// Microseconds, and percents of all.
fn shares(classes: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let all: u64 = classes.iter().map(|(_, count)| count).sum();
    let share = |count: u64| count as f64 * 100.0 / all as f64;
    classes
        .iter()
        .map(|(time, count)| (time / 1e3, share(*count)))
        .collect()
}
