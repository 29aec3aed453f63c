//! Where things are: distances, areas, and cells of the H3 grid (feature `geo`).

mod polygon;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use h3o::{LatLng, Resolution};

use super::Entry;
use super::arguments::{check_count, check_number, nth, wrong};
use polygon::Area;

/// The mean radius of the Earth (IUGG).
const EARTH_RADIUS_M: f64 = 6_371_008.8;

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: "geo_distance_m",
        signature: "geo_distance_m(lat1, lon1, lat2, lon2)",
        summary: "Metres between two places, over the surface of the Earth.",
        details: "In degrees: latitudes from -90 to 90, longitudes from -180 to 360. The answer is that of a sphere with the \
                  mean radius of 6,371,008.8 m, within 0.6 percent of the ellipsoid's. It is null if an argument is null or \
                  NaN. Errors: types, other degrees. Cost: a few sines a row. Method: the formula of Vincenty for a sphere, \
                  which is exact for near places and opposite ones.",
        example: "SELECT round(geo_distance_m(0, 179.5, 0, -179.5)) AS m\n-- 111195.0",
    },
    Entry {
        name: "geo_within",
        signature: "geo_within(lat, lon, polygon)",
        summary: "Whether a place is inside of a polygon, or on its edge.",
        details: "The polygon is WKT (POLYGON or MULTIPOLYGON) or GeoJSON (Polygon, MultiPolygon, or a Feature of one), where \
                  longitude comes first; holes are cut out, without their edges. Edges are straight in longitude and \
                  latitude and go the shorter way round, over the antimeridian too; a ring that goes round a pole holds \
                  the pole of the hemisphere that most of it is in. The answer is null if an argument is null or NaN. Errors: types, \
                  other degrees, text that is no polygon. Cost: a look at each edge; the text is read once for rows that \
                  follow each other with the same.",
        example: "SELECT geo_within(-0.02, 109.34, 'POLYGON ((109 -1, 110 -1, 110 1, 109 1, 109 -1))') AS inside\n-- true",
    },
    Entry {
        name: "h3_cell",
        signature: "h3_cell(lat, lon, resolution)",
        summary: "The cell of the H3 grid that a place is in, as text.",
        details: "Resolutions go from 0, cells of 1,100 km, to 15, cells of half a metre; 9 is some 170 m. The answer is null \
                  if an argument is null or NaN. Errors: types, other degrees, another resolution. Source: Uber's H3, by the \
                  crate h3o.",
        example: "SELECT h3_cell(37.7752702151959, -122.418307270836, 9) AS cell\n-- 8928308280fffff",
    },
];

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    let function = |what| Arc::new(ScalarUDF::from(Geo { what, signature: signature.clone() }));
    vec![function(What::Distance), function(What::Within), function(What::Cell)]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Distance,
    Within,
    Cell,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Geo {
    what: What,
    signature: Signature,
}

impl Geo {
    fn arguments(&self) -> &'static [&'static str] {
        match self.what {
            What::Distance => &["lat1", "lon1", "lat2", "lon2"],
            What::Within => &["lat", "lon", "polygon"],
            What::Cell => &["lat", "lon", "resolution"],
        }
    }

    /// The degrees in two columns from `place` on; none where one is null or NaN.
    fn places(&self, columns: &[ArrayRef], place: usize) -> Result<Vec<Option<(f64, f64)>>> {
        let numbers = |place: usize| -> Result<ArrayRef> { Ok(cast(nth(columns, place)?, &DataType::Float64)?) };
        let (latitudes, longitudes) = (numbers(place)?, numbers(place + 1)?);
        let pairs = latitudes.as_primitive::<Float64Type>().iter().zip(longitudes.as_primitive::<Float64Type>());
        let argument = |place: usize| nth(self.arguments(), place);
        let checked = pairs.map(|pair| match pair {
            (Some(latitude), Some(longitude)) if !latitude.is_nan() && !longitude.is_nan() => {
                if latitude.abs() > 90.0 {
                    let remedy = "a latitude is from -90 to 90: are latitude and longitude exchanged?";
                    return Err(wrong(self.name(), argument(place)?, format_args!("is {latitude}"), remedy));
                }
                if !(-180.0..=360.0).contains(&longitude) {
                    let remedy = "a longitude is from -180 to 180, or from 0 to 360";
                    return Err(wrong(self.name(), argument(place + 1)?, format_args!("is {longitude}"), remedy));
                }
                Ok(Some((latitude, longitude)))
            }
            _ => Ok(None),
        });
        checked.collect()
    }

    fn distances(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let (from, to) = (self.places(columns, 0)?, self.places(columns, 2)?);
        let distances = from.into_iter().zip(to).map(|(from, to)| from.zip(to).map(|(from, to)| distance_m(from, to)));
        Ok(Arc::new(distances.collect::<Float64Array>()))
    }

    fn within(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let places = self.places(columns, 0)?;
        let texts = cast(nth(columns, 2)?, &DataType::Utf8View)?;
        let mut last: Option<(&str, Area)> = None;
        let mut inside = Vec::with_capacity(places.len());
        for (place, text) in places.into_iter().zip(texts.as_string_view()) {
            let (Some((latitude, longitude)), Some(text)) = (place, text) else {
                inside.push(None);
                continue;
            };
            let area = match last.take() {
                Some((known, area)) if known == text => area,
                _ => Area::parse(text).map_err(|what| {
                    let remedy = "write WKT, POLYGON ((lon lat, ..)), or GeoJSON";
                    wrong(self.name(), "polygon", what, remedy)
                })?,
            };
            inside.push(Some(area.contains(latitude, longitude)));
            last = Some((text, area));
        }
        Ok(Arc::new(BooleanArray::from(inside)))
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let places = self.places(columns, 0)?;
        let resolutions = cast(nth(columns, 2)?, &DataType::Int64)?;
        let cell = |((latitude, longitude), number): ((f64, f64), i64)| {
            let resolution = u8::try_from(number).ok().and_then(|number| Resolution::try_from(number).ok());
            let remedy = "give a number from 0, the coarsest, to 15";
            let resolution =
                resolution.ok_or_else(|| wrong(self.name(), "resolution", format_args!("is {number}"), remedy))?;
            let place = LatLng::new(latitude, longitude);
            let place = place.map_err(|error| wrong(self.name(), "lat", error, "give degrees"))?;
            Ok(place.to_cell(resolution).to_string())
        };
        let rows = places.into_iter().zip(resolutions.as_primitive::<Int64Type>());
        let cells = rows.map(|(place, number)| place.zip(number).map(cell).transpose());
        Ok(Arc::new(cells.collect::<Result<StringViewArray>>()?))
    }
}

/// Metres on the sphere. The arctangent of both sine and cosine keeps its digits for angles near 0 and near 180.
fn distance_m((latitude1, longitude1): (f64, f64), (latitude2, longitude2): (f64, f64)) -> f64 {
    let (sin1, cos1) = latitude1.to_radians().sin_cos();
    let (sin2, cos2) = latitude2.to_radians().sin_cos();
    let (sin, cos) = (longitude2 - longitude1).to_radians().sin_cos();
    let across = (cos2 * sin).hypot(cos1 * sin2 - sin1 * cos2 * cos);
    EARTH_RADIUS_M * across.atan2(sin1 * sin2 + cos1 * cos2 * cos)
}

impl ScalarUDFImpl for Geo {
    fn name(&self) -> &str {
        match self.what {
            What::Distance => "geo_distance_m",
            What::Within => "geo_within",
            What::Cell => "h3_cell",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let arguments = self.arguments();
        check_count(
            &format!("{}({})", self.name(), arguments.join(", ")),
            types.len(),
            arguments.len()..=arguments.len(),
        )?;
        for (argument, found) in arguments.iter().zip(types) {
            match *argument {
                "polygon" if found.is_string() || found.is_null() => {}
                "polygon" => {
                    let remedy = "give text: WKT, POLYGON ((lon lat, ..)), or GeoJSON";
                    return Err(wrong(self.name(), argument, format_args!("is {found}"), remedy));
                }
                "resolution" if !found.is_integer() && !found.is_null() => {
                    return Err(wrong(
                        self.name(),
                        argument,
                        format_args!("is {found}"),
                        "give a whole number from 0 to 15",
                    ));
                }
                _ => check_number(self.name(), argument, found)?,
            }
        }
        Ok(match self.what {
            What::Distance => DataType::Float64,
            What::Within => DataType::Boolean,
            What::Cell => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let answer = match self.what {
            What::Distance => self.distances(&columns)?,
            What::Within => self.within(&columns)?,
            What::Cell => self.cells(&columns)?,
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?));
        }
        Ok(ColumnarValue::Array(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = (f64, f64)> {
        (-90.0..=90.0_f64, -180.0..=180.0_f64)
    }

    proptest! {
        #[test]
        fn distances_are_those_of_a_sphere(a in place(), b in place(), c in place()) {
            let half = std::f64::consts::PI * EARTH_RADIUS_M;
            let ab = distance_m(a, b);
            prop_assert!((0.0..=half + 1e-6).contains(&ab));
            prop_assert!((ab - distance_m(b, a)).abs() < 1e-6);
            prop_assert!(distance_m(a, c) <= ab + distance_m(b, c) + 1e-6);
            // The chord through the Earth is a sum of squares, without angles.
            let vector = |(latitude, longitude): (f64, f64)| {
                let ((sin, cos), (across, along)) = (latitude.to_radians().sin_cos(), longitude.to_radians().sin_cos());
                [cos * along, cos * across, sin]
            };
            let chord: f64 = vector(a).iter().zip(vector(b)).map(|(a, b)| (a - b) * (a - b)).sum();
            let arc = 2.0 * EARTH_RADIUS_M * (chord.sqrt() / 2.0).min(1.0).asin();
            prop_assert!((ab - arc).abs() < 1.0, "{ab} {arc}");
            prop_assert!(distance_m(a, a) < 1e-6);
            prop_assert!((distance_m((90.0, a.1), (90.0, b.1))).abs() < 1e-6, "one pole");
        }
    }
}
