//! Polygons on the globe: reading them, and telling what is inside.
//!
//! Edges are straight in longitude and latitude, as GeoJSON has them. An edge goes the shorter way round: one from 179 to
//! -179 crosses the antimeridian. So a ring's longitudes are unrolled into numbers without a jump, and a point is looked
//! for at its own and at those a turn away. A ring that does not come back to where it began has gone round a pole, and is
//! closed along it.

use serde_json::Value;

/// An area, perhaps of several parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Area(Vec<Part>);

/// An outer ring and its holes.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    outer: Ring,
    holes: Vec<Ring>,
}

/// Longitudes, unrolled, and latitudes. The last is joined with the first.
#[derive(Clone, Debug, PartialEq)]
struct Ring {
    points: Vec<(f64, f64)>,
    /// The least longitude and the greatest.
    span: (f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    Edge,
    Outside,
}

/// Longitude and latitude as written.
type Point = (f64, f64);

const TURN: f64 = 360.0;
const POLE: f64 = 90.0;

impl Area {
    /// Reads WKT or GeoJSON.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = if text.trim_start().starts_with('{') { json_parts(text)? } else { wkt_parts(text)? };
        let part = |rings: Vec<Vec<Point>>| {
            let mut rings = rings.into_iter().map(Ring::new).collect::<Result<Vec<_>, _>>()?.into_iter();
            let outer = rings.next().ok_or("has a part without a ring")?;
            Ok(Part { outer, holes: rings.collect() })
        };
        parts.into_iter().map(part).collect::<Result<Vec<_>, String>>().map(Self)
    }

    /// Whether a point is inside or on an edge.
    pub(super) fn contains(&self, latitude: f64, longitude: f64) -> bool {
        self.0.iter().any(|part| {
            part.outer.place(latitude, longitude) != Place::Outside
                && part.holes.iter().all(|hole| hole.place(latitude, longitude) != Place::Inside)
        })
    }
}

impl Ring {
    fn new(mut points: Vec<Point>) -> Result<Self, String> {
        if points.len() > 1 && points.first() == points.last() {
            points.pop();
        }
        if points.len() < 3 {
            return Err(format!("has a ring of {} points", points.len()));
        }
        let mut unrolled: Vec<Point> = Vec::with_capacity(points.len() + 3);
        for (longitude, latitude) in points.iter().copied() {
            if !(latitude.abs() <= POLE && longitude.abs() <= TURN) {
                return Err(format!("has the point {longitude} {latitude}, which is none: longitude comes first"));
            }
            let before = unrolled.last().map_or(longitude, |point| point.0);
            unrolled.push((before + shorter(longitude - before), latitude));
        }
        if let (Some(first), Some(last)) = (unrolled.first().copied(), unrolled.last().copied()) {
            let end = last.0 + shorter(first.0 - last.0);
            if (end - first.0).abs() > TURN / 2.0 {
                let north = unrolled.iter().map(|point| point.1).sum::<f64>() >= 0.0;
                let pole = if north { POLE } else { -POLE };
                unrolled.extend([(end, first.1), (end, pole), (first.0, pole)]);
            }
        }
        let longitudes = || unrolled.iter().map(|point| point.0);
        let span = (longitudes().fold(f64::INFINITY, f64::min), longitudes().fold(f64::NEG_INFINITY, f64::max));
        Ok(Self { points: unrolled, span })
    }

    fn place(&self, latitude: f64, longitude: f64) -> Place {
        if latitude.abs() == POLE {
            // All longitudes are one there.
            let touches = self.points.iter().any(|point| point.1 == latitude);
            return if touches { Place::Edge } else { Place::Outside };
        }
        let turns = ((self.span.0 - longitude) / TURN).ceil();
        let mut at = longitude + turns * TURN;
        while at <= self.span.1 {
            match self.planar(at, latitude) {
                Place::Outside => at += TURN,
                found => return found,
            }
        }
        Place::Outside
    }

    /// By how many edges are crossed on the way east.
    fn planar(&self, x: f64, y: f64) -> Place {
        let mut inside = false;
        let ends = self.points.iter().skip(1).chain(self.points.first());
        for (&(x0, y0), &(x1, y1)) in self.points.iter().zip(ends) {
            // On which side of the edge the point is; exact where it matters, for points on level or upright edges.
            let side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0);
            let within = x >= x0.min(x1) && x <= x0.max(x1) && y >= y0.min(y1) && y <= y0.max(y1);
            if side == 0.0 && within {
                return Place::Edge;
            }
            if (y0 > y) != (y1 > y) && (side > 0.0) == (y1 < y0) {
                inside = !inside;
            }
        }
        if inside { Place::Inside } else { Place::Outside }
    }
}

/// A difference of longitudes, the shorter way: from -180 to 180.
fn shorter(difference: f64) -> f64 {
    let turned = difference.rem_euclid(TURN);
    if turned > TURN / 2.0 { turned - TURN } else { turned }
}

fn json_parts(text: &str) -> Result<Vec<Vec<Vec<Point>>>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let geometry =
        if value.get("type").and_then(Value::as_str) == Some("Feature") { value.get("geometry") } else { Some(&value) };
    let kind = geometry.and_then(|geometry| geometry.get("type")).and_then(Value::as_str);
    let coordinates = geometry.and_then(|geometry| geometry.get("coordinates"));
    let (Some(kind), Some(coordinates)) = (kind, coordinates) else {
        return Err("is JSON without `type` and `coordinates`".into());
    };
    let list =
        |value: &Value| value.as_array().cloned().ok_or_else(|| format!("has {value:.40} where a list is expected"));
    let point = |value: &Value| {
        let number = |place: usize| value.get(place).and_then(Value::as_f64);
        number(0).zip(number(1)).ok_or_else(|| format!("has {value:.40} where a point is expected"))
    };
    let ring = |value: &Value| list(value)?.iter().map(point).collect::<Result<Vec<_>, _>>();
    let part = |value: &Value| list(value)?.iter().map(ring).collect::<Result<Vec<_>, _>>();
    match kind {
        "Polygon" => Ok(vec![part(coordinates)?]),
        "MultiPolygon" => list(coordinates)?.iter().map(part).collect(),
        other => Err(format!("is JSON of a {other}")),
    }
}

fn wkt_parts(text: &str) -> Result<Vec<Vec<Vec<Point>>>, String> {
    let text = text.trim();
    let text = text.strip_prefix("SRID=4326;").unwrap_or(text);
    let open = text.find('(').ok_or_else(|| format!("is {text:.40}"))?;
    let (kind, rest) = text.split_at(open);
    let mut reader = Wkt(rest);
    let parts = match kind.trim().to_ascii_uppercase().as_str() {
        "POLYGON" | "POLYGON Z" => vec![reader.list(|reader| reader.list(Wkt::point))?],
        "MULTIPOLYGON" | "MULTIPOLYGON Z" => reader.list(|reader| reader.list(|reader| reader.list(Wkt::point)))?,
        other => return Err(format!("is WKT of a {other:.40}")),
    };
    if reader.0.trim().is_empty() { Ok(parts) } else { Err(format!("goes on with {:.40}", reader.0)) }
}

/// What of a text is left.
struct Wkt<'a>(&'a str);

impl Wkt<'_> {
    fn take(&mut self, wanted: char) -> bool {
        let rest = self.0.trim_start();
        let taken = rest.strip_prefix(wanted);
        self.0 = taken.unwrap_or(rest);
        taken.is_some()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        if !self.take('(') {
            return Err(format!("has {:.20} where a bracket is expected", self.0));
        }
        let mut items = vec![item(self)?];
        while self.take(',') {
            items.push(item(self)?);
        }
        if self.take(')') { Ok(items) } else { Err(format!("has {:.20} where a bracket is expected", self.0)) }
    }

    fn point(&mut self) -> Result<Point, String> {
        let end = self.0.find([',', ')']).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(longitude)), Some(Ok(latitude))) => {
                self.0 = rest;
                Ok((longitude, latitude))
            }
            _ => Err(format!("has {text:.40} where a point is expected")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use proptest::prelude::*;

    fn text(points: &[Point], by: f64) -> String {
        let rolled = |longitude: f64| (longitude + by + 180.0).rem_euclid(360.0) - 180.0;
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{} {y}", rolled(*x))).collect();
        format!("POLYGON (({}))", points.join(", "))
    }

    proptest! {
        /// Whole numbers, so that turning the globe rounds nothing.
        #[test]
        fn turning_the_globe_changes_nothing(
            points in prop::collection::vec((-80..80_i32, -80..80_i32), 3..9),
            at in (-90..90_i32, -85..85_i32),
            by in -360..360_i32,
        ) {
            let points: Vec<Point> = points.into_iter().map(|(x, y)| (f64::from(x), f64::from(y))).collect();
            let (x, y) = (f64::from(at.0), f64::from(at.1));
            let here = Area::parse(&text(&points, 0.0)).unwrap().contains(y, x);
            let turned = Area::parse(&text(&points, f64::from(by))).unwrap();
            for turn in [-360.0, 0.0, 360.0] {
                prop_assert_eq!(turned.contains(y, x + f64::from(by) + turn), here);
            }
        }

        /// A box by its bounds alone.
        #[test]
        fn a_box_holds_what_is_between_its_sides(
            (west, wide) in (-180..180_i32, 1..170_i32), (south, high) in (-90..80_i32, 1..10_i32),
            at in (-180..180_i32, -89..89_i32),
        ) {
            let (w, e, s, n) = (f64::from(west), f64::from(west + wide), f64::from(south), f64::from(south + high));
            let area = Area::parse(&text(&[(w, s), (e, s), (e, n), (w, n)], 0.0)).unwrap();
            let inside = (at.0 - west).rem_euclid(360) <= wide && (south..=south + high).contains(&at.1);
            prop_assert_eq!(area.contains(f64::from(at.1), f64::from(at.0)), inside);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}", json in "\\{\"type\":\"(Multi)?Polygon\",\"coordinates\":[\\[\\]0-9,]{0,30}\\}") {
            let _ = (Area::parse(&text), Area::parse(&json), Area::parse(&format!("POLYGON (({text}))")));
        }
    }

    #[test]
    fn a_ring_round_a_pole_holds_the_pole() {
        let cap = Area::parse("POLYGON ((0 60, 90 60, 180 60, -90 60, 0 60))").unwrap();
        for (latitude, longitude, inside) in
            [(90.0, 12.0, true), (75.0, -179.0, true), (60.0, 45.0, true), (59.0, 45.0, false), (-90.0, 0.0, false)]
        {
            assert_eq!(cap.contains(latitude, longitude), inside, "{latitude} {longitude}");
        }
        let south = Area::parse("POLYGON ((0 -60, 90 -70, 180 -60, -90 -70, 0 -60))").unwrap();
        assert!(south.contains(-90.0, 0.0) && south.contains(-75.0, 130.0) && !south.contains(-60.0, 90.0));
    }

    #[test]
    fn holes_are_cut_out_and_their_edges_belong() {
        let ring =
            Area::parse("MULTIPOLYGON (((0 0, 9 0, 9 9, 0 9, 0 0), (3 3, 6 3, 6 6, 3 6, 3 3)), ((20 0, 21 0, 21 1)))")
                .unwrap();
        let cases = [
            (1.0, 1.0, true),
            (4.0, 4.0, false),
            (3.0, 4.0, true),
            (0.0, 0.0, true),
            (0.5, 20.9, true),
            (0.5, 15.0, false),
        ];
        for (latitude, longitude, inside) in cases {
            assert_eq!(ring.contains(latitude, longitude), inside, "{latitude} {longitude}");
        }
    }
}
