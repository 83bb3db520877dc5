#include "base/utf8.hpp"

#include <gtest/gtest.h>

namespace molt {
namespace {

TEST(utf8, tells_characters_from_bytes_that_are_none) {
  for (const char* const text : {"", "plain", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf",
                                 "\xee\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
    EXPECT_TRUE(is_printable(text)) << text;
    EXPECT_EQ(printable(text), text);
  }
  for (const char* const text : {"\x80", "\xff", "\xc3", "\xc3(", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xe2\x82",
                                 "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(text));
    EXPECT_FALSE(is_printable(text));
    EXPECT_TRUE(is_printable(printable(text))) << printable(text);
  }
}

TEST(utf8, shows_no_control_character) {
  EXPECT_TRUE(is_utf8("\x1b[31m\n"));
  EXPECT_FALSE(is_printable("\n"));
  EXPECT_FALSE(is_printable("\x7f"));
  EXPECT_FALSE(is_printable("\xc2\x9b"));  // a terminal's CSI in one character
  EXPECT_TRUE(is_printable("\xc2\xa0"));
  EXPECT_EQ(printable("a\x1b[31mb\nc\td\x7f"
                      "e\xc2\x9bg"),
            "a?[31mb?c?d?e?g");
  EXPECT_EQ(printable(std::string_view{"a\0b", 3}), "a?b");
  EXPECT_EQ(printable("\xc3\xa4\xff\xe2\x82"), "\xc3\xa4???");
}

}  // namespace
}  // namespace molt
