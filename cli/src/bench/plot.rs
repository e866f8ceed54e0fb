//! The results as a picture.

use super::Measurement;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

const WIDTH: u32 = 900;
const LEFT: i32 = 190;
const RIGHT: i32 = 90;
const TOP: i32 = 60;
const BAR: i32 = 20;
const STEP: i32 = 32;
const BLUE: RGBColor = RGBColor(62, 116, 178);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// One bar of GB/s per measurement, and a line at the copy bandwidth.
pub(super) fn svg(results: &[Measurement], copy_gb_per_s: f64) -> Result<String, String> {
    let mut text = String::new();
    let height = TOP + STEP * results.len() as i32 + 30;
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height as u32)).into_drawing_area();
        draw(&area, results, copy_gb_per_s).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// The name, and the number of threads where it differs.
fn label(result: &Measurement, all: &[Measurement]) -> String {
    let same = all.iter().all(|other| other.threads == result.threads);
    match result.threads {
        Some(threads) if !same => format!("{} ×{threads}", result.name),
        _ => result.name.clone(),
    }
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    results: &[Measurement],
    copy_gb_per_s: f64,
) -> Result<(), Box<dyn Error>> {
    area.fill(&WHITE)?;
    let top = results.iter().map(|r| r.gb_per_s).fold(copy_gb_per_s, f64::max).max(f64::MIN_POSITIVE);
    let x = |value: f64| LEFT + (f64::from(WIDTH as i32 - LEFT - RIGHT) * value / top) as i32;
    let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let right = font(17).pos(Pos::new(HPos::Right, VPos::Center));
    let left = font(17).pos(Pos::new(HPos::Left, VPos::Center));
    let centre = font(15).color(&GREY).pos(Pos::new(HPos::Center, VPos::Bottom));

    area.draw(&Text::new("GB/s", (LEFT, 12), font(20)))?;
    let bottom = TOP + STEP * results.len() as i32;
    for (row, result) in results.iter().enumerate() {
        let y = TOP + STEP * row as i32 + (STEP - BAR) / 2;
        area.draw(&Rectangle::new([(LEFT, y), (x(result.gb_per_s), y + BAR)], BLUE.filled()))?;
        area.draw(&Text::new(label(result, results), (LEFT - 8, y + BAR / 2), right.clone()))?;
        area.draw(&Text::new(format!("{:.1}", result.gb_per_s), (x(result.gb_per_s) + 6, y + BAR / 2), left.clone()))?;
    }
    area.draw(&PathElement::new([(x(copy_gb_per_s), TOP), (x(copy_gb_per_s), bottom)], GREY.stroke_width(2)))?;
    area.draw(&Text::new(format!("copy {copy_gb_per_s:.1}"), (x(copy_gb_per_s), TOP - 4), centre))?;
    area.present()?;
    Ok(())
}
