//! Charts of the examples as SVG files.
#![allow(dead_code, reason = "each example draws some of it")]

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// A named line, as points by x.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether the value holds until the next point, instead of going there straight.
    pub(crate) holds: bool,
    /// Whether what is below it is filled.
    pub(crate) filled: bool,
}

/// What a chart says beside its lines.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// What a value of x is called.
    pub(crate) x_name: &'a dyn Fn(f64) -> String,
    pub(crate) y_name: &'a dyn Fn(f64) -> String,
}

type Failure = Box<dyn std::error::Error>;

const SIZE: (u32, u32) = (960, 480);
const FONT: &str = "sans-serif";
/// Told apart by eyes of all kinds (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

impl Chart<'_> {
    /// Draws lines into the file `path`.
    pub(crate) fn lines(&self, path: &Path, lines: &[Line<'_>]) -> Result<(), Failure> {
        let points = || lines.iter().flat_map(|line| &line.points);
        let x = points().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.0), high.max(point.0)));
        // With room for the legend above the lines.
        let top = points().fold(0.0_f64, |top, point| top.max(point.1)) * (1.1 + 0.06 * lines.len() as f64);
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        let mut chart = self.frame(&area, x, top)?;
        for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
            let points = if line.holds { steps(&line.points) } else { line.points.clone() };
            let stroke = ShapeStyle::from(color).stroke_width(2);
            let series = if line.filled {
                chart.draw_series(AreaSeries::new(points, 0.0, color.mix(0.2)).border_style(stroke))?
            } else {
                chart.draw_series(LineSeries::new(points, stroke))?
            };
            series.label(line.name).legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 2)], color.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 15))
            .draw()?;
        area.present()?;
        Ok(())
    }

    /// Draws one bar for each of `bars` into the file `path`.
    pub(crate) fn bars(&self, path: &Path, bars: &[f64]) -> Result<(), Failure> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        let top = bars.iter().fold(0.0_f64, |top, bar| top.max(*bar)) * 1.08;
        let mut chart = self.frame(&area, (-0.5, bars.len() as f64 - 0.5), top)?;
        let color = COLORS.first().copied().unwrap_or(BLACK);
        chart.draw_series(bars.iter().enumerate().map(|(n, bar)| {
            let middle = n as f64;
            Rectangle::new([(middle - 0.35, 0.0), (middle + 0.35, *bar)], color.filled())
        }))?;
        area.present()?;
        Ok(())
    }

    fn frame<'d>(
        &self,
        area: &DrawingArea<SVGBackend<'d>, Shift>,
        x: (f64, f64),
        top: f64,
    ) -> Result<
        ChartContext<
            'd,
            SVGBackend<'d>,
            Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
        >,
        Failure,
    > {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 20))
            .margin(16)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x.0..x.1, 0.0..top.max(1e-9))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style((FONT, 15))
            .label_style((FONT, 14))
            .x_label_formatter(&|x| (self.x_name)(*x))
            .y_label_formatter(&|y| (self.y_name)(*y))
            .draw()?;
        Ok(chart)
    }
}

/// Points with the corners between them, where a value holds until the next.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut all: Vec<(f64, f64)> = Vec::with_capacity(points.len() * 2);
    for point in points {
        if let Some((_, before)) = all.last().copied() {
            all.push((point.0, before));
        }
        all.push(*point);
    }
    all
}
