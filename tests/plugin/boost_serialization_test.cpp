// Classes written for Boost.Serialization, unchanged: private and split members, nvp, class versions, its container
// headers.
#include "tests/plugin/memory_archive.hpp"

#include <gtest/gtest.h>
#include <boost/container/flat_map.hpp>
#include <boost/optional.hpp>
#include <boost/serialization/array_wrapper.hpp>
#include <boost/serialization/binary_object.hpp>
#include <boost/serialization/boost_unordered_map.hpp>
#include <boost/serialization/deque.hpp>
#include <boost/serialization/map.hpp>
#include <boost/serialization/nvp.hpp>
#include <boost/serialization/optional.hpp>
#include <boost/serialization/split_member.hpp>
#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <boost/serialization/version.hpp>
#include <boost/unordered_map.hpp>
#include <molt/plugin.hpp>

namespace legacy {

class inner {
 public:
  static constexpr unsigned molt_version = 0;
  int number = 0;

 private:
  friend class boost::serialization::access;
  template <class Archive>
  void serialize(Archive& archive, const unsigned int) {
    archive& BOOST_SERIALIZATION_NVP(number);
  }
};

class book {
 public:
  std::map<std::string, inner> entries;
  std::vector<double> weights;
  boost::optional<int> chosen;
  boost::unordered_map<int, std::string> names;
  char tag[4] = {};
  int numbers[3] = {};
  bool was_split = false;

  template <class Archive>
  void save(Archive& archive, const unsigned int) const {
    archive << entries << boost::serialization::make_nvp("weights", weights) << chosen << names;
    archive << boost::serialization::make_binary_object(const_cast<char*>(tag), sizeof tag);
    archive << boost::serialization::make_array(numbers, 3);
  }
  template <class Archive>
  void load(Archive& archive, const unsigned int version) {
    archive.template register_type<inner>();
    archive >> entries >> boost::serialization::make_nvp("weights", weights) >> chosen >> names;
    archive >> boost::serialization::make_binary_object(tag, sizeof tag);
    archive >> boost::serialization::make_array(numbers, 3);
    was_split = version == 5;
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
};

}  // namespace legacy
BOOST_CLASS_VERSION(legacy::book, 5)

namespace {

TEST(boost_serialization, classes_written_for_it_work_unchanged) {
  legacy::book book;
  book.entries["one"].number = 1;
  book.weights = {0.5, 1.5};
  book.chosen = 42;
  book.names = {{1, "a"}, {2, "b"}};
  std::copy_n("tag", 4, book.tag);
  book.numbers[2] = 9;
  const molt_schema& schema = molt::schema_of<legacy::book>();
  EXPECT_EQ(schema.version, 5U);
  int status = -1;
  const std::string bytes = molt::tests::save_bytes(schema, &book, &status);
  ASSERT_EQ(status, MOLT_OK);

  legacy::book back;
  std::destroy_at(&back);
  std::string why;
  status = molt::tests::load_bytes(schema, &back, bytes, &why);
  if (status != MOLT_OK) std::construct_at(&back);
  ASSERT_EQ(status, MOLT_OK) << why;
  EXPECT_EQ(back.entries["one"].number, 1);
  EXPECT_EQ(back.weights, book.weights);
  EXPECT_TRUE(back.chosen == book.chosen);
  EXPECT_EQ(back.names, book.names);
  EXPECT_STREQ(back.tag, "tag");
  EXPECT_EQ(back.numbers[2], 9);
  EXPECT_TRUE(back.was_split);

  for (std::size_t size = 0; size < bytes.size(); ++size) {
    alignas(legacy::book) char storage[sizeof(legacy::book)];
    ASSERT_EQ(molt::tests::load_bytes(schema, storage, bytes.substr(0, size)), MOLT_BAD_ARCHIVE) << size;
  }
}

}  // namespace
