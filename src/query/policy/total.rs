//! Expressions that give an answer for any row.
//!
//! Where rows are not to be seen by themselves, what is evaluated on each of them must not fail, or the error would show one:
//! a cast names the text that is no number, and a division tells whether there is a row with a divisor of zero.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// Functions that answer for any row, their constant arguments being right: what is wrong with those is wrong for all rows.
const FUNCTIONS: [&str; 8] = [
    "date_bin",
    "date_bin_gapfill",
    "date_bin_wallclock",
    "date_bin_wallclock_gapfill",
    "date_part",
    "date_trunc",
    "lower",
    "upper",
];

/// Whether `expression` fails on no row of this schema, and looks at nothing but the row.
pub(super) fn is_total(expression: &Expr, schema: &DFSchema) -> bool {
    let total = |part: &Expr| is_total(part, schema);
    match expression {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => total(&alias.expr),
        Expr::Not(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsNotUnknown(inner) => total(inner),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            total(left)
                && total(right)
                && (matches!(op, Operator::And | Operator::Or) || is_comparison(*op) && compares(left, right, schema))
        }
        Expr::Between(between) => {
            let ends = [&between.low, &between.high];
            total(&between.expr) && ends.into_iter().all(|end| total(end) && compares(&between.expr, end, schema))
        }
        Expr::InList(list) => {
            total(&list.expr) && list.list.iter().all(|item| total(item) && compares(&list.expr, item, schema))
        }
        Expr::Like(like) | Expr::SimilarTo(like) => {
            // A pattern that is no pattern is so for all rows if it is a constant.
            total(&like.expr) && matches!(*like.pattern, Expr::Literal(..)) && is_text(&like.expr, schema)
        }
        Expr::Cast(cast) => total(&cast.expr) && never_fails(&cast.expr, cast.field.data_type(), schema),
        Expr::TryCast(cast) => total(&cast.expr),
        Expr::ScalarFunction(call) => FUNCTIONS.contains(&call.func.name()) && call.args.iter().all(total),
        _ => false,
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether two sides are compared without a text of a row becoming something else, which it may not be.
fn compares(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let becomes = |side: &Expr, other: &Expr| {
        !matches!(side, Expr::Literal(..)) && is_text(side, schema) && !is_text(other, schema)
    };
    !becomes(left, right) && !becomes(right, left)
}

fn is_text(expression: &Expr, schema: &DFSchema) -> bool {
    let data_type = expression.get_type(schema);
    data_type.is_ok_and(|found| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
}

/// Whether a cast holds for any value.
fn never_fails(from: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    let Ok(from) = from.get_type(schema) else { return false };
    match (&from, to) {
        (from, to) if from == to => true,
        (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
        (from, DataType::Float64) => from.is_numeric(),
        // To another zone, or none.
        (DataType::Timestamp(unit, _), DataType::Timestamp(other, _)) => unit == other,
        (DataType::Timestamp(..), DataType::Date32) => true,
        _ => false,
    }
}
