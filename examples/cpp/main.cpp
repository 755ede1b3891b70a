// Where does an image classifier look? A Backlit file, run with ONNX Runtime's own C++ API.
//
//   saliency MODEL IMAGE OUT     OUT.png: the picture beside its saliency map
//                                OUT.pfm: the map itself, float32 (portable float map)

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

using Json = nlohmann::json;

// Pixels of 8 bits, rows from the top, channels interleaved: the order in which `image` takes them.
struct Picture {
    int width, height, channels;
    std::vector<std::uint8_t> pixels;

    Picture(int w, int h, int c)
        : width(w), height(h), channels(c), pixels(std::size_t(w) * h * c) {}
    std::size_t index(int x, int y) const { return (std::size_t(y) * width + x) * channels; }
    std::uint8_t* at(int x, int y) { return &pixels[index(x, y)]; }
    const std::uint8_t* at(int x, int y) const { return &pixels[index(x, y)]; }
};

// JPEG, PNG, PPM and what else stb_image reads. The orientation in a photo's EXIF is not applied.
Picture read(const char* path) {
    int width, height, channels;
    std::unique_ptr<std::uint8_t, void (*)(void*)> data(
        stbi_load(path, &width, &height, &channels, 3), stbi_image_free);
    if (!data) throw std::runtime_error(std::string(path) + ": " + stbi_failure_reason());
    Picture picture(width, height, 3);
    std::copy_n(data.get(), picture.pixels.size(), picture.pixels.begin());
    return picture;
}

// Pillow's kernels, at x in pixels: the triangle, and Keys' cubic with a = -1/2.
double kernel(double x, bool cubic) {
    x = std::abs(x);
    if (!cubic) return std::max(0.0, 1 - x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// One side of the picture, `across` or down, at another size. As in Pillow the kernel is stretched
// to the step (which is antialiasing) and its weights have 22 bits: the pixels are the same.
Picture resampled(const Picture& from, int size, bool across, bool cubic) {
    Picture to(across ? size : from.width, across ? from.height : size, from.channels);
    const int length = across ? from.width : from.height, lines = across ? from.height : from.width;
    const double step = double(length) / size, stretch = std::max(step, 1.0), shrink = 1 / stretch;
    const double reach = (cubic ? 2 : 1) * stretch;
    for (int target = 0; target < size; ++target) {
        const double centre = (target + 0.5) * step;
        const int first = std::max(0, int(centre - reach + 0.5));
        const int last = std::min(length, int(centre + reach + 0.5));
        std::vector<double> weights;
        double total = 0;
        for (int i = first; i < last; ++i) {
            weights.push_back(kernel((i - centre + 0.5) * shrink, cubic));
            total += weights.back();
        }
        std::vector<int> fixed;
        for (double weight : weights) fixed.push_back(int(std::lround(weight / total * (1 << 22))));
        for (int line = 0; line < lines; ++line)
            for (int c = 0; c < from.channels; ++c) {
                int sum = 1 << 21;
                for (int i = first; i < last; ++i)
                    sum += fixed[i - first] * (across ? from.at(i, line) : from.at(line, i))[c];
                std::uint8_t* pixel = across ? to.at(target, line) : to.at(line, target);
                pixel[c] = std::uint8_t(std::clamp(sum >> 22, 0, 255));
            }
    }
    return to;
}

// ITU-R 601.
std::uint8_t luma(const std::uint8_t* rgb) {
    return std::uint8_t((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
}

// The picture as the classifier takes it: the metadata's "image" says which size and how.
Picture prepared(const Picture& original, const Json& image) {
    const int width = image.at("width"), height = image.at("height");
    const int channels = image.at("channels");
    int wide = width, high = height;  // "stretch": the whole picture, whatever its shape
    if (image.at("resize") == "crop") {  // cover the size over crop_fraction, then cut the centre
        const double fraction = image.at("crop_fraction");
        wide = std::max(width, int(std::nearbyint(width / fraction)));
        high = std::max(height, int(std::nearbyint(height / fraction)));
        const std::int64_t w = original.width, h = original.height;
        if (w * high >= h * wide) wide = std::max<int>(wide, int(high * w / h));
        else high = std::max<int>(high, int(wide * h / w));
    }
    const bool cubic = image.at("interpolation") == "bicubic";
    const Picture whole = resampled(resampled(original, wide, true, cubic), high, false, cubic);
    const int left = int(std::nearbyint((wide - width) / 2.0));
    const int top = int(std::nearbyint((high - height) / 2.0));
    Picture cut(width, height, channels);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const std::uint8_t* rgb = whole.at(left + x, top + y);
            if (channels == 3) std::copy_n(rgb, 3, cut.at(x, y));
            else *cut.at(x, y) = luma(rgb);
        }
    return cut;
}

// Black, purple, orange, pale yellow, for 0 to 1.
std::array<std::uint8_t, 3> colour(float level) {
    static constexpr float stops[5][3] = {
        {0, 0, 4}, {87, 16, 110}, {188, 55, 84}, {249, 142, 9}, {252, 255, 164}};
    const float place = 4 * std::clamp(level, 0.0f, 1.0f);
    const int below = std::min(3, int(place));
    std::array<std::uint8_t, 3> rgb;
    for (int c = 0; c < 3; ++c) {
        const float from = stops[below][c], to = stops[below + 1][c];
        rgb[c] = std::uint8_t(std::lround(from + (place - below) * (to - from)));
    }
    return rgb;
}

// The picture on the left, the map on the right; its 99 % quantile is the brightest colour, so that
// single spikes do not leave the rest black.
void write_png(const std::string& path, const Picture& picture, const float* map) {
    const int width = picture.width, height = picture.height;
    std::vector<float> sorted(map, map + std::size_t(width) * height);
    const auto quantile = sorted.begin() + std::ptrdiff_t(0.99 * double(sorted.size() - 1));
    std::nth_element(sorted.begin(), quantile, sorted.end());
    const float top = std::max(*quantile, 1e-20f);
    Picture sheet(2 * width, height, 3);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            for (int c = 0; c < 3; ++c)
                sheet.at(x, y)[c] = picture.at(x, y)[picture.channels == 3 ? c : 0];
            const auto rgb = colour(map[y * width + x] / top);
            std::copy(rgb.begin(), rgb.end(), sheet.at(width + x, y));
        }
    if (!stbi_write_png(path.c_str(), sheet.width, sheet.height, 3, sheet.pixels.data(), 0))
        throw std::runtime_error(path + " cannot be written");
}

// Portable float map: a header of text, then float32, rows from the BOTTOM; -1 is little endian.
void write_pfm(const std::string& path, int width, int height, const float* map) {
    std::ofstream file(path, std::ios::binary);
    file << "Pf\n" << width << ' ' << height << "\n-1.0\n";
    for (int y = height - 1; y >= 0; --y) {
        const float* row = map + std::size_t(y) * width;
        file.write(reinterpret_cast<const char*>(row), std::streamsize(width * sizeof(float)));
    }
    if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::cerr << "usage: saliency MODEL IMAGE OUT   (writes OUT.png and OUT.pfm)\n";
        return 2;
    }
    const std::filesystem::path model = argv[1];
    const std::string out = argv[3];

    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "backlit");
    Ort::SessionOptions options;  // a GPU: options.AppendExecutionProvider_CUDA_V2(...) here
    Ort::Session session(env, model.c_str(), options);

    Ort::AllocatorWithDefaultOptions allocator;
    const auto text =
        session.GetModelMetadata().LookupCustomMetadataMapAllocated("backlit", allocator);
    if (!text) throw std::runtime_error("not a Backlit file: first backlit export MODEL -o FILE");
    const Json metadata = Json::parse(text.get());
    if (metadata.at("schema") != 2)
        throw std::runtime_error("metadata of another schema: " + metadata.at("schema").dump());
    if (metadata.at("image").at("dtype") != "uint8")
        throw std::runtime_error("takes no pixels: export it with --input uint8");

    Picture picture = prepared(read(argv[2]), metadata.at("image"));
    std::int64_t classes[] = {-1};  // the best-scoring class; -2 is the second, 7 is class 7
    const std::int64_t image_shape[] = {1, picture.height, picture.width, picture.channels};
    const std::int64_t classes_shape[] = {1, 1};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<std::uint8_t>& pixels = picture.pixels;
    const Ort::Value inputs[] = {
        Ort::Value::CreateTensor(memory, pixels.data(), pixels.size(), image_shape, 4),
        Ort::Value::CreateTensor(memory, classes, 1, classes_shape, 2),
    };
    const char* const input_names[] = {"image", "class_index"};
    const char* const output_names[] = {"class", "score", "saliency"};
    const auto found = session.Run(Ort::RunOptions(), input_names, inputs, 2, output_names, 3);
    const std::int64_t chosen = found[0].GetTensorData<std::int64_t>()[0];
    const float score = found[1].GetTensorData<float>()[0];
    const float* map = found[2].GetTensorData<float>();  // [1,1,H,W]

    const Json& labels = metadata.at("labels");
    const Json label = labels.is_null() ? Json() : labels.at(std::size_t(chosen));
    std::cout << Json{{"class", chosen}, {"label", label}, {"score", score}} << '\n';
    write_png(out + ".png", picture, map);
    write_pfm(out + ".pfm", picture.width, picture.height, map);
    return 0;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
}
