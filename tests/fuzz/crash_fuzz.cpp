// Any bytes as what a dying node left: an error that names the line, or a report that can be shown.
#include "base/assert.hpp"
#include "node/crash_raw.hpp"
#include "node/crash_report.hpp"

#include <boost/json.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace molt::node;
  const auto raw = parse_crash_raw({reinterpret_cast<const char*>(data), size});
  if (!raw) {
    MOLT_ASSERT(!raw.error().message().empty());
    return 0;
  }
  MOLT_ASSERT(raw->signal > 0 && raw->frames.size() <= crash_raw_frames_max);
  MOLT_ASSERT(raw->servers.size() <= crash_raw_servers_max && raw->images.size() <= crash_raw_images_max);
  auto looked_at = *raw;
  for (auto& image : looked_at.images) image.path = "/nonexistent";  // what lies there is not under test
  const auto report = report_of(looked_at, {});
  MOLT_ASSERT(boost::json::serialize(report).size() <= 1U << 20U);
  const std::string text = text_of_report(report);
  for (const char c : text)
    MOLT_ASSERT(c == '\n' || (static_cast<unsigned char>(c) >= ' ' && c != 127), static_cast<int>(c));
  MOLT_ASSERT(summary_of_report(report).contains("what"));
  return 0;
}
