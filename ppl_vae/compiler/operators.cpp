// The loops as operators of torch, by its stable C interface, so that they are called without Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <stdexcept>
#include <string>
#include <vector>

// What torch could not do, such as find memory, is an error of the step, and not of who goes on without it.
static void must(AOTITorchError code) {
  if (code != AOTI_TORCH_SUCCESS) throw std::runtime_error("torch gave no tensor: out of memory?");
}

struct Tensor {  // the one that stands in a value, or a new one of so many rows
  AtenTensorHandle handle = nullptr;
  int64_t *sizes, *strides;

  explicit Tensor(StableIValue value) {
    std::memcpy(&handle, &value, sizeof handle);
    look();
  }
  Tensor(int64_t rows, int64_t columns, int32_t type) {
    const int64_t shape[] = {rows, columns}, steps[] = {columns, 1};
    must(aoti_torch_empty_strided(2, shape, steps, type, aoti_torch_device_type_cpu(), 0, &handle));
    look();
  }
  explicit Tensor(int64_t number) {  // 0-d
    const int64_t none = 0;
    const int32_t type = aoti_torch_dtype_int64(), device = aoti_torch_device_type_cpu();
    must(aoti_torch_empty_strided(0, &none, &none, type, device, 0, &handle));
    *data<int64_t>() = number;
  }
  ~Tensor() {
    if (handle) aoti_torch_delete_tensor_object(handle);
  }
  Tensor(const Tensor&) = delete;
  template <typename Number>
  Number* data() const {
    void* found;
    must(aoti_torch_get_data_ptr(handle, &found));
    return (Number*)found;
  }
  void become(StableIValue* value) {  // which has it from then on
    std::memcpy(value, &handle, sizeof handle);
    handle = nullptr;
  }

 private:
  void look() {
    must(aoti_torch_get_sizes(handle, &sizes));
    must(aoti_torch_get_strides(handle, &strides));
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
  const Tensor a(stack[0]), b(stack[1]);
  Tensor c(a.sizes[0], b.sizes[1], aoti_torch_dtype_float32());
  std::vector<float> left, right;
  product(a.sizes[0], b.sizes[1], a.sizes[1], matrix(a, left), matrix(b, right), c.data<float>());
  c.become(stack);
}

static void run_column_sums(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor x(stack[0]);
  Tensor sums(1, x.sizes[1], aoti_torch_dtype_float32());
  std::vector<float> room;
  column_sums(x.sizes[0], x.sizes[1], matrix(x, room), sums.data<float>());
  sums.become(stack);
}

static void run_threefry(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor key(stack[0]);
  Tensor words(2, stack[2], aoti_torch_dtype_int32());
  threefry(key.data<uint32_t>(), stack[1], stack[2], words.data<uint32_t>());
  words.become(stack);
}

struct Span {
  int64_t size, stride;
};

// Those over which different numbers lie, as few as there can be.
static std::vector<Span> spans(const Tensor& tensor) {
  int64_t dims;
  must(aoti_torch_get_dim(tensor.handle, &dims));
  std::vector<Span> found = {{1, 0}};
  for (int64_t i = 0; i < dims; ++i) {
    const int64_t size = tensor.sizes[i], stride = tensor.strides[i];
    if (size == 1 || (stride == 0 && size > 0)) continue;
    if (found.back().stride == size * stride || found.back().size == 1)
      found.back() = {found.back().size * size, stride};
    else
      found.push_back({size, stride});
  }
  return found;
}

// The first that is neither from `low` to below `high` nor `but`, null where there is none.
template <typename Number>
static const Number* outside(const Number* at, const Span* span, size_t count, int64_t low, int64_t high,
                             int64_t but) {
  const Number* found = nullptr;
  if (count > 1) {
    for (int64_t i = 0; i < span->size && !found; ++i)
      found = outside(at + i * span->stride, span + 1, count - 1, low, high, but);
    return found;
  }
  bool fine = true;
  for (int64_t i = 0; i < span->size; ++i) {
    const int64_t x = at[i * span->stride];
    fine &= ((x >= low) & (x < high)) | (x == but);
  }
  for (int64_t i = 0; !fine && !found; ++i) {
    const int64_t x = at[i * span->stride];
    if ((x < low || x >= high) && x != but) found = at + i * span->stride;
  }
  return found;
}

// 0, or an IndexError: an error within a loop of several threads would end the process.
static void run_within(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor index(stack[0]);
  const int64_t low = stack[1], high = stack[2], but = stack[3];
  const std::vector<Span> where = spans(index);
  int32_t type;
  must(aoti_torch_get_dtype(index.handle, &type));
  int64_t wrong = 0;
  const auto look = [&](const auto* at) {
    const auto* found = outside(at, where.data(), where.size(), low, high, but);
    if (found) wrong = *found;
    return found != nullptr;
  };
  const bool any = type == aoti_torch_dtype_int32() ? look(index.data<int32_t>()) : look(index.data<int64_t>());
  if (any)
    throw std::out_of_range("index " + std::to_string(wrong) + " is out of bounds for a dimension with size " +
                            std::to_string(high));
  Tensor(int64_t{0}).become(stack);
}

extern "C" bool offer() {
  static const bool done = [] {
    TorchLibraryHandle library;
    return !aoti_torch_library_init_impl("ppl_vae", "CPU", __FILE__, __LINE__, &library) &&
        !aoti_torch_library_impl(library, "product", run_product) &&
        !aoti_torch_library_impl(library, "column_sums", run_column_sums) &&
        !aoti_torch_library_impl(library, "threefry", run_threefry) &&
        !aoti_torch_library_impl(library, "within", run_within);
  }();
  return done;
}
