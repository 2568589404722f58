// The loops as operators of torch, by its stable C interface, so that they are called without Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <vector>

struct Tensor {  // the one that stands in a value, or a new one of so many rows
  AtenTensorHandle handle;
  int64_t *sizes, *strides;

  explicit Tensor(StableIValue value) {
    std::memcpy(&handle, &value, sizeof handle);
    look();
  }
  Tensor(int64_t rows, int64_t columns, int32_t type) {
    const int64_t shape[] = {rows, columns}, steps[] = {columns, 1};
    aoti_torch_empty_strided(2, shape, steps, type, aoti_torch_device_type_cpu(), 0, &handle);
    look();
  }
  template <typename Number>
  Number* data() const {
    void* found;
    aoti_torch_get_data_ptr(handle, &found);
    return (Number*)found;
  }
  void end() const { aoti_torch_delete_tensor_object(handle); }
  void become(StableIValue* value) const { std::memcpy(value, &handle, sizeof handle); }

 private:
  void look() {
    aoti_torch_get_sizes(handle, &sizes);
    aoti_torch_get_strides(handle, &strides);
  }
};

// As a matrix of which rows or columns lie side by side: itself, or a copy that `room` holds.
static Matrix matrix(const Tensor& tensor, std::vector<float>& room) {
  const Matrix found = {tensor.data<float>(), tensor.strides[0], tensor.strides[1]};
  if (found.row == 1 || found.column == 1) return found;
  for (int64_t i = 0; i < tensor.sizes[0]; ++i)
    for (int64_t j = 0; j < tensor.sizes[1]; ++j) room.push_back(*found.at(i, j).data);
  return {room.data(), tensor.sizes[1], 1};
}

static void run_product(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor a(stack[0]), b(stack[1]), c(a.sizes[0], b.sizes[1], aoti_torch_dtype_float32());
  std::vector<float> left, right;
  product(a.sizes[0], b.sizes[1], a.sizes[1], matrix(a, left), matrix(b, right), c.data<float>());
  a.end(), b.end(), c.become(stack);
}

static void run_column_sums(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor x(stack[0]), sums(1, x.sizes[1], aoti_torch_dtype_float32());
  std::vector<float> room;
  column_sums(x.sizes[0], x.sizes[1], matrix(x, room), sums.data<float>());
  x.end(), sums.become(stack);
}

static void run_threefry(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor key(stack[0]), words(2, stack[2], aoti_torch_dtype_int32());
  threefry(key.data<uint32_t>(), stack[1], stack[2], words.data<uint32_t>());
  key.end(), words.become(stack);
}

extern "C" bool offer() {
  static const bool done = [] {
    TorchLibraryHandle library;
    return !aoti_torch_library_init_impl("ppl_vae", "CPU", __FILE__, __LINE__, &library) &&
        !aoti_torch_library_impl(library, "product", run_product) &&
        !aoti_torch_library_impl(library, "column_sums", run_column_sums) &&
        !aoti_torch_library_impl(library, "threefry", run_threefry);
  }();
  return done;
}
