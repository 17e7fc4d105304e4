package admin

import (
	"image"
	"image/color"

	"rsc.io/qr"
)

// quiet is the white border of a QR code, in modules (ISO 18004).
const quiet = 4

// qrImage draws text as a QR code of side by side pixels.
func qrImage(text string, side int) (image.Image, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	modules := code.Size + 2*quiet
	scale := max(1, side/modules)
	shift := (side - scale*modules) / 2
	for y := range side {
		for x := range side {
			mx, my := (x-shift)/scale-quiet, (y-shift)/scale-quiet
			if x >= shift && y >= shift && mx >= 0 && my >= 0 && mx < code.Size && my < code.Size && code.Black(mx, my) {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	return img, nil
}
