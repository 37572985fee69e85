// SPDX-License-Identifier: MIT
// Containers of the standard library: a hash table of strings and a tree of vectors, filled, thinned out and read: table N.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

int main(int argc, char **argv)
{
	const uint64_t n = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 100000;
	std::unordered_map<uint64_t, std::string> text;
	std::map<uint64_t, std::vector<uint32_t>> numbers;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		text[i * 2654435761u % 4294967291u] = std::to_string(i) + std::string(100 + i % 50, static_cast<char>('a' + i % 26));
		if (i % 8 == 0)
			numbers[i * 40503u % 65537u << 20 | i].assign(64 + i % 64, static_cast<uint32_t>(i));
	}
	for (uint64_t i = 0; i < n; i += 3)
		text.erase(i * 2654435761u % 4294967291u);
	for (uint64_t i = 0; i < n; i++) {
		const auto found = text.find(i * 2654435761u % 4294967291u);
		if (found != text.end())
			for (const char c : found->second)
				sum = sum * 31 + static_cast<unsigned char>(c);
	}
	for (const auto &entry : numbers)
		for (const uint32_t number : entry.second)
			sum = sum * 31 + number;
	std::printf("%zu %zu %016llx\n", text.size(), numbers.size(), static_cast<unsigned long long>(sum));
	return 0;
}
