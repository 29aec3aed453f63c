//! Batches that own their memory.
//!
//! Columns of a live block are views of its mapping. Inside a plan that is the point; an answer that kept them would
//! keep the block's file locked, and out of reuse, for as long as the caller keeps the answer.

use arrow::array::{
    Array, ArrayData, BinaryViewArray, MutableArrayData, RecordBatch, RecordBatchOptions, StringViewArray, make_array,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// A copy of `batch` that shares no buffer with it, and carries no bytes that no row refers to.
pub(crate) fn owned(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| owned_data(&column.to_data()).map(make_array));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<_, _>>()?, &options)
}

fn owned_data(data: &ArrayData) -> Result<ArrayData, ArrowError> {
    let mut copy = MutableArrayData::new(vec![data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    own_shared(copy.freeze())
}

/// Copies what `MutableArrayData` shares with its source: heaps of views and values of dictionaries, at any depth.
fn own_shared(data: ArrayData) -> Result<ArrayData, ArrowError> {
    let own_child: fn(&ArrayData) -> Result<ArrayData, ArrowError> = match data.data_type() {
        DataType::Utf8View => return Ok(StringViewArray::from(data).gc().into_data()),
        DataType::BinaryView => return Ok(BinaryViewArray::from(data).gc().into_data()),
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => owned_data,
        nested if nested.is_nested() => |child| own_shared(child.clone()),
        _ => return Ok(data),
    };
    let children = data.child_data().iter().map(own_child).collect::<Result<_, _>>()?;
    data.into_builder().child_data(children).build()
}
